"""Encoders: a training step of families other than BERT, by each way in which regkit runs them, beside transformers.

The weights are random: RoBERTa's by minBERT and by the adapter, ModernBERT's by the adapter alone.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from regkit import Tokenizer
from regkit.data.order import Feed
from regkit.model.families import FAMILIES
from regkit.model.modes import autocast
from regkit.tasks.task import FINETUNE
from tests.benchmarks.by_hand import WHOLE, by_hand
from tests.benchmarks.options import Options
from tests.benchmarks.ours import Plugins, regkit_way, trainer_of
from tests.benchmarks.padded import padded
from tests.benchmarks.table import Contender, Table, measure
from tests.benchmarks.turns import Way

SHAPE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
RATES = {"attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1}  # those of the others
NONE: Plugins = {}


def tables(options: Options) -> Iterator[Table]:
    """Compare steps of random encoders of two families."""
    for family in ("roberta", "modernbert"):
        with TemporaryDirectory() as name:
            write(Path(name), family, options)
            chosen = replace(options, encoder=Path(name))
            ours = partial(regkit_way, chosen, NONE, pooling="mean")
            ways = [Contender("regkit, the adapter", partial(adapted, chosen, family))]
            minbert = [Contender("regkit, minBERT", ours)] if family in FAMILIES else []
            theirs = Contender("transformers, a hand-written loop", partial(hand_loop, chosen), "transformers")
            yield measure(f"A step of {family}, random weights", [theirs, *minbert, *ways], chosen)


def write(folder: Path, family: str, options: Options) -> None:
    """Write a random checkpoint of a family, with the tokenizer of the chosen encoder."""
    import transformers

    tokenizer = Tokenizer.load(options.encoder)
    (begin, *_, end), _ = tokenizer.join([[]])
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": 514, "pad_token_id": 0}
    words |= dict.fromkeys(["bos_token_id", "cls_token_id"], begin) | dict.fromkeys(
        ["eos_token_id", "sep_token_id"], end
    )
    more: dict[str, Any] = {"modernbert": RATES, "roberta": {"type_vocab_size": 1}}[family]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **words | (TINY if options.quick else SHAPE) | more)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save(folder)


def adapted(options: Options, family: str) -> Way:
    """Make regkit's update by the adapter, for a family that minBERT may know."""
    with patch.dict(FAMILIES):
        FAMILIES.pop(family, None)
        return regkit_way(options, NONE, pooling="mean")


def hand_loop(options: Options) -> Way:
    """Make the update by hand around transformers' model, with a head on the mean."""
    from transformers import AutoModel

    trainer, device = trainer_of(options, NONE, pooling="mean"), options.device
    (task,) = trainer.tasks
    feed = Feed(task, trainer.streams.seed, FINETUNE, bucketing=options.bucketing)
    encoder, linear = AutoModel.from_pretrained(options.encoder), trainer.model.heads[task.name].linear
    names = dict(encoder.named_parameters(prefix=encoder.base_model_prefix))
    names |= dict(linear.named_parameters(prefix=f"heads.{task.name}.linear"))
    head = nn.Sequential(nn.Dropout(0.1), linear)
    both = nn.ModuleList([encoder, head]).to(device).train()

    def forward(number: int) -> tuple[Tensor, Tensor]:
        (batch,) = feed.micro_batches(number, WHOLE)
        inputs = padded(batch, device)
        del inputs["token_type_ids"]  # these families have none
        mask = inputs["attention_mask"][..., None]
        with autocast(device, options.dtype):
            output = head((encoder(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1))
            output = output.squeeze(1) if output.shape[1] == 1 else output
            return output, task.objective.loss(output, batch.labels.to(device))

    return by_hand(both, names, feed, forward)
