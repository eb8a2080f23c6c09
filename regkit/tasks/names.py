"""Names: what splits, pair modes and the last stage are called."""

from typing import Literal

ENTRY = "regkit"  # of the config.json that regkit writes: what others need not know
PLUGINS = "plugins"  # in that entry: those that have put modules into the model, with their options
HIDDEN = "model_type"  # in that entry: the encoder's family, where nobody may read it without plugins' modules
MOST_CLASSES = 1 << 16  # of a task: each has a row in the head's weights, whatever the data
FINETUNE = "finetune"  # the stage that every run ends with, on the run's own tasks

Split = Literal["train", "dev", "test"]
UNDER = " under "  # between a split and what was done to its examples: `dev under typos`
Precision = Literal["auto", "bf16", "fp32"]
Pooling = Literal[
    "pooler", "cls", "mean", "max"
]  # of a text's hidden states; the pooler is a layer above that of [CLS]
PairMode = Literal["cross_encoder", "bi_encoder"]  # both texts in one sequence, or each in its own
