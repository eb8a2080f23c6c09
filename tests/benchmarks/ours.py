"""Ours: regkit's side of a benchmark - an update of its loop on batch n, and what that computes without dropout."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from regkit import Experiment, Settings
from regkit.data.order import Feed
from regkit.model import save_encoder
from regkit.model.modes import mode
from regkit.runs.shared import Shared
from regkit.training.loop import Trainer
from regkit.training.stages import Span, make_optimizer, prepare
from regkit.training.state import Length
from tests.benchmarks.alike import Outcome
from tests.benchmarks.options import Options
from tests.benchmarks.turns import Way, Work
from tests.helpers import stages_of

Plugins = Mapping[str, Mapping[str, Any]]


def regkit_way(options: Options, plugins: Plugins, **more: Any) -> Way:
    """Make a whole update of regkit's loop with some plugins; `more` are settings."""
    return way_of(trainer_of(options, plugins, **more))


def trainer_of(options: Options, plugins: Plugins, **more: Any) -> Trainer:
    return experiment_of(options, plugins, **more).trainer


def experiment_of(options: Options, plugins: Plugins, **more: Any) -> Experiment:
    """Build what a run would train; by default one task, with a head on the pooler's output."""
    values = {"tasks": [options.task], "pooling": "pooler", **more}
    settings = Settings(
        data=options.data,
        encoder=str(options.encoder),
        batch_size=options.batch_size,
        precision=options.precision,
        length_bucketing=options.bucketing,
        plugins=plugins,
        **values,
    )
    shared = _shared()
    experiment = Experiment.build(settings, shared=shared)
    shared.encoders.clear()  # a run by itself keeps no second copy of the weights
    return experiment


@cache
def _shared() -> Shared:
    """Make what keeps the tasks of this process: ten ways read a table once."""
    return Shared()


def way_of(trainer: Trainer) -> Way:
    """Make the update of a trainer's one stage on batch n."""
    span = enter(trainer)
    return Way(lambda number: update(trainer, span, number), lambda: outcome(trainer, span), tokens_of(span.feeds))


def step_of(trainer: Trainer) -> Work:
    """Make what updates the model of a trainer's one stage with batch n."""
    return way_of(trainer).work


def enter(trainer: Trainer) -> Span:
    """Begin the trainer's one stage, of as many updates as anybody asks for."""
    ((stage, tasks),) = stages_of(trainer)
    trainer.state.enter(0, stage.name)
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, tasks)
        optimizer = trainer.state.optimizer = make_optimizer(trainer.hook, trainer.model, stage)
        trainer.fit.begin(trainer.state, trainer.passes, tasks, trainer.processes)
    feeds = {task.name: Feed(task, trainer.streams.seed, stage.name, bucketing=trainer.bucketing) for task in tasks}
    return Span(stage, tasks, feeds, Length(10**6, 10**6), optimizer)


def update(trainer: Trainer, span: Span, number: int) -> None:
    """Make one update, with batch n of each chosen task."""
    place(trainer, span, number)
    trainer.step(span)


def place(trainer: Trainer, span: Span, number: int) -> None:
    """Put the trainer where update n is made."""
    trainer.state.position.step, trainer.state.position.seen = number, dict.fromkeys(span.feeds, number)


def outcome(trainer: Trainer, span: Span) -> Outcome:
    """Compute the outputs and gradients of batch 0 without dropout, and change nothing."""
    place(trainer, span, 0)
    with trainer.streams.at(span.stage.name, 0), mode(trainer.model, training=False):
        chosen = trainer.gradient(span, 0).chosen
        cleans = [
            trainer.passes.clean(task, batch.to(trainer.streams.device)) for task, parts in chosen for batch in parts
        ]
    outputs = torch.cat([clean.output.detach().flatten() for clean in cleans])
    found = gradients(trainer)
    trainer.model.zero_grad()
    return Outcome(outputs, found)


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    """Copy the gradients, by the names of transformers' modules; those of heads are named by their tasks."""
    encoder, heads = (
        {name: weight.grad.detach().clone() for name, weight in module.named_parameters() if weight.grad is not None}
        for module in (trainer.model.encoder, trainer.model.heads)
    )
    _, named = save_encoder(trainer.model.encoder, encoder)
    return named | {f"heads.{name}": gradient for name, gradient in heads.items()}


def tokens_of(feeds: Mapping[str, Feed]) -> Callable[[int], int]:
    """Make what counts the tokens of the tasks' batches n, without padding."""
    return lambda number: sum(int(feed.lengths[feed.rows(number)].sum()) for feed in feeds.values())


def operations_a_token(trainer: Trainer) -> float:
    """Count the operations of a training step for each token: six for each weight of the layers (PaLM, appendix B).

    The products of attention, which depend on the length, are left out: they are a few percent of those of short texts.
    """
    return 6.0 * sum(weight.numel() for weight in trainer.model.encoder.layers.parameters())
