"""Tiny: a model, tasks and a run that take a moment."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor, nn

from regkit.base.randomness import Streams
from regkit.distributed.processes import ALONE, Processes
from regkit.hooks.compose import Composition, compose
from regkit.hooks.defaults import Defaults
from regkit.hooks.spec import hookimpl
from regkit.model import Bert, BertConfig, MultitaskModel
from regkit.model.repeat.repeated import Repeated
from regkit.model.tokenizer import Tokenizer
from regkit.runs import models
from regkit.tasks.objectives import (
    SCALE,
    Binary,
    Classification,
    Multilabel,
    Objective,
    Ordinal,
    Regression,
    SoftLabels,
)
from regkit.tasks.task import FINETUNE, Examples, PairMode, Stage, Task
from regkit.training.effects import Meter, Record
from regkit.training.fit import Fit
from regkit.training.loop import Trainer
from regkit.training.passes import Passes
from regkit.training.state import State

Plugins = Mapping[str, Any]
PLACE = ContextVar("PLACE", default="cpu")  # where tiny runs train

TINY = BertConfig(
    vocab_size=97,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
    initializer_range=0.2,  # large enough for a few steps to matter
)
STEPS = 6


def tiny_task(
    name: str, objective: Objective, pair_mode: PairMode | None = None, *, size: int = 24, batch_size: int = 5
) -> Task:
    """Make a task of random sequences of 3 to 14 tokens; labels depend on the first token."""
    random = np.random.default_rng(sum(map(ord, name)))
    sides = 2 if pair_mode == "bi_encoder" else 1
    lengths = random.integers(3, 15, size * sides)
    tokens = random.integers(1, TINY.vocab_size, lengths.sum())
    starts = np.cumsum(lengths) - lengths
    segments = np.concatenate([np.arange(n) >= n // 2 for n in lengths]) if pair_mode == "cross_encoder" else 0 * tokens
    share = tokens[starts[::sides]] / TINY.vocab_size
    examples = Examples(
        tokens=tokens.astype(np.int32),
        segments=segments.astype(np.int8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=_labels(objective, torch.from_numpy(share)),
        sides=sides,
        ids=[str(row) for row in range(size)],
    )
    return Task(name, objective, {"train": examples, "dev": examples}, pair_mode, batch_size)


def _labels(objective: Objective, share: Tensor) -> Tensor:
    """Make labels of a kind from a number in [0, 1) for each example."""
    if isinstance(objective, Regression):
        return (SCALE * share).float()
    classes = getattr(objective, "classes", max(objective.width, 2))
    if isinstance(objective, SoftLabels):
        return (8 * share[:, None] * torch.arange(classes)).cos().softmax(-1).float()
    if isinstance(objective, Multilabel):
        return (share[:, None] * 2 ** torch.arange(1, classes + 1)).long() % 2
    return (share * classes).long()


def tiny_tokenizer() -> Tokenizer:
    """Make a vocabulary of the tiny model's size: special tokens, and then numbers."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = special + [str(number) for number in range(TINY.vocab_size - len(special))]
    backend = Backend(WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = BertPreTokenizer()
    backend.add_special_tokens(special)
    return Tokenizer(backend)


def tiny_tasks() -> list[Task]:
    """Make one task of each objective, and of each way to read a pair."""
    return [
        tiny_task("classes", Classification(3)),
        tiny_task("binary", Binary(), "cross_encoder", size=18),
        tiny_task("score", Regression(0, 5), "cross_encoder", size=13),
        tiny_task("cosine", Regression(0, 5), "bi_encoder", size=16),
        tiny_task("features", Binary(), "bi_encoder", size=16),
    ]


def tiny_kinds() -> list[Task]:
    """Make one task of each kind whose labels or outputs are in another form, and one with class weights."""
    return [
        tiny_task("labels", Multilabel(3), size=12),
        tiny_task("grades", Ordinal(4), "cross_encoder", size=12),
        tiny_task("ranks", Ordinal(3, weights=(0.5, 1.0, 1.5)), "bi_encoder", size=12),
        tiny_task("shares", SoftLabels(3), "bi_encoder", size=12),
        tiny_task("rare", Classification(3, weights=(0.3, 0.7, 2.0)), size=12),
        tiny_task("spam", Binary(weights=(0.6, 1.8)), "cross_encoder", size=12),
    ]


def unscored(tasks: Sequence[Task]) -> list[Task]:
    """Leave out the dev splits: scoring a tiny model takes longer than training it."""
    return [replace(task, splits={"train": task.splits["train"]}) for task in tasks]


def tiny_trainer(
    plugins: Plugins,
    *,
    tasks: Sequence[Task] | None = None,
    steps: int = STEPS,
    seed: int = 0,
    dropout: float = 0.1,
    micro_batch_tokens: int = 10_000,
    observers: Sequence[object] = (),
    stages: Mapping[str, Sequence[str]] | None = None,
    processes: Processes = ALONE,
    begun: Path | None = None,
) -> Trainer:
    """Make a trainer of a fresh tiny model on tiny tasks; `trainer.train()` takes a moment.

    `stages` says where some of the plugins act, as their option of that name does. The weights of the checkpoint `begun` take
    the place of fresh ones.
    """
    trainer, composition = tiny_run(plugins, tasks, steps, seed, dropout, micro_batch_tokens, stages, processes, begun)
    for observer in observers:
        composition.observe(observer)
    return trainer


def measured(
    plugins: Plugins, *, tasks: Sequence[Task] | None = None, every: int = 1, micro_batch_tokens: int = 10_000
) -> tuple[Trainer, Composition, list[Record]]:
    """Run a tiny training with the effect meter on; also returns the records of the measured steps."""
    trainer, composition = tiny_run(plugins, tasks, micro_batch_tokens=micro_batch_tokens)
    meter = Meter(trainer.state, composition, every)
    log = MeterLog(meter)
    composition.observe(log)
    composition.observe(meter)
    trainer.train()
    return trainer, composition, log.records


@contextmanager
def placed(device: torch.device) -> Iterator[None]:
    """Let the tiny runs of the block train on this device."""
    before = PLACE.set(str(device))
    try:
        yield
    finally:
        PLACE.reset(before)


def tiny_run(
    plugins: Plugins,
    tasks: Sequence[Task] | None,
    steps: int = STEPS,
    seed: int = 0,
    dropout: float = 0.1,
    micro_batch_tokens: int = 10_000,
    stages: Mapping[str, Sequence[str]] | None = None,
    processes: Processes = ALONE,
    begun: Path | None = None,
) -> tuple[Trainer, Composition]:
    tasks = tiny_tasks() if tasks is None else tasks
    streams = Streams(seed, PLACE.get())
    with streams.seeded("encoder"):
        encoder = Bert(replace(TINY, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout))
    if begun:
        encoder.load_state_dict(cast(nn.Module, models.read(begun).encoder).state_dict())
    stage = Stage(FINETUNE, [task.name for task in tasks], steps=steps, learning_rate=1e-2)
    composition = compose(plugins, Defaults(tasks, stage), streams, stages)
    tasks = composition.tasks(tasks, tiny_tokenizer(), encoder)
    model = MultitaskModel(encoder, tasks, streams, dropout=dropout)
    build = partial(composition.build, model, tasks)
    if begun:
        models.fill(begun, model, build)
    else:
        build()
    model.to(streams.device)
    if streams.device.type == "cuda":
        encoder.repeated = Repeated()
    passes = Passes(model, composition.hook, streams, plugins=composition.in_steps(), radii=composition.radii)
    state = State(model, composition.hook, streams, plugins, composition.acts)
    return Trainer(passes, state, tasks, Fit(micro_batch_tokens), processes), composition


class Several:
    """A scheduler of three tasks a step in turn, for plugins that combine the gradients of several."""

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task], step: int) -> Sequence[Task]:
        """Choose the three tasks after those of the step before; all, if there are fewer."""
        return [tasks[(3 * step + turn) % len(tasks)] for turn in range(min(3, len(tasks)))]

    @hookimpl
    def epoch_steps(self) -> int:
        """Say how long an epoch is: as long as a tiny run."""
        return STEPS


class MeterLog:
    """An observer that keeps what the meter finds, as a run's recorder does."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.records: list[Record] = []

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        if found := self.meter.finish():
            self.records.append(found)
