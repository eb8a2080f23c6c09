"""A tiny classifier of transformers, a few texts, and a Trainer for them."""

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from regkit.hf import RegularizedTrainer  # noqa: E402

WORDS, CLASSES = 50, 3
SHAPE: dict[str, Any] = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 24, "max_position_embeddings": 40, "initializer_range": 0.3}
RATES = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "distilbert": {},
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "electra": {"embedding_size": 12},
    "albert": RATES | {"embedding_size": 8},
    "deberta-v2": RATES | RELATIVE | {"position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm"},
    "modernbert": {"local_attention": 8, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    | {"attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1, "classifier_dropout": 0.1},
    "mpnet": {"pad_token_id": 1},
    "gpt2": {"bos_token_id": 1, "eos_token_id": 2},  # it finds the last word by input_ids
}
WITHOUT_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}  # of DistilBERT


def classifier(family: str = "distilbert", **more: Any) -> Any:
    """A random classifier; its weights are the same at every call."""
    entries = SHAPE | {"pad_token_id": 0, "num_labels": CLASSES} | FAMILIES[family] | more
    torch.manual_seed(1)
    with redirect_stderr(io.StringIO()):
        config = transformers.AutoConfig.for_model(family, **entries)
        return transformers.AutoModelForSequenceClassification.from_config(config)


def texts(count: int = 24, *, score: bool = False) -> list[dict[str, Any]]:
    """Random texts of 4 to 11 words; the label depends on the first."""
    random = np.random.default_rng(0)
    words = [random.integers(3, WORDS, random.integers(4, 12)).tolist() for _ in range(count)]
    return [{"words": each, "label": each[0] / WORDS if score else each[0] % CLASSES} for each in words]


def collate(rows: Sequence[Mapping[str, Any]], *, pad: int = 0, more: int = 0, left: bool = False) -> dict[str, Tensor]:
    """Pad texts as a collator does, with `more` columns than they need."""
    longest = max(len(row["words"]) for row in rows) + more
    ids, mask = torch.full((len(rows), longest), pad), torch.zeros(len(rows), longest, dtype=torch.long)
    for row, each in enumerate(rows):
        place = slice(longest - len(each["words"]), None) if left else slice(len(each["words"]))
        ids[row, place], mask[row, place] = torch.tensor(each["words"]), 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([each["label"] for each in rows])}


def make(plugins: Iterable[Any] | None, folder: Path, model: Any = None, **options: Any) -> Any:
    """A Trainer on these texts: a plain one for None. Options are those of the Trainer, or else of its arguments."""
    names = ("compute_loss_func", "callbacks", "optimizers", "train_dataset", "data_collator", "args", "kind")
    given = {name: options.pop(name) for name in names if name in options}
    model = classifier() if model is None else model
    usual: dict[str, Any] = {"per_device_train_batch_size": 4, "num_train_epochs": 1, "learning_rate": 1e-2}
    usual |= {
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "use_cpu": True,
    }
    arguments = transformers.TrainingArguments(str(folder), dataloader_pin_memory=False, **usual | options)
    pad = getattr(getattr(model, "config", None), "pad_token_id", 0) or 0
    given = {"train_dataset": texts(), "data_collator": lambda rows: collate(rows, pad=pad)} | given
    kind = given.pop("kind", transformers.Trainer if plugins is None else RegularizedTrainer)
    given |= {} if plugins is None else {"plugins": plugins}
    given = {"args": arguments} | given
    trainer = kind(model=model, eval_dataset=texts(8), **given)
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def train(trainer: Any, **options: Any) -> Any:
    """Train without a word; returns the trainer."""
    quiet = redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO())
    with quiet[0], quiet[1], patch("gc.collect"):  # which accelerate calls: it takes half the time of a short run
        trainer.train(**options)
    return trainer


def same_weights(one: Any, other: Any) -> None:
    """Raise AssertionError if a weight of two trainers' models differs in a single bit."""
    theirs = other.model.state_dict()
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, theirs[name]), f"{name} differs"


class Stop(transformers.TrainerCallback):  # type: ignore[misc]  # mypy does not read transformers
    """Stops a run after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        control.should_training_stop = control.should_training_stop or state.global_step == self.after
