"""Observers: watch a tiny run, and compare two."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from regkit.data.order import Feed
from regkit.hooks.spec import hookimpl
from regkit.tasks.batch import Batch
from regkit.tasks.task import Stage, Task
from regkit.training.loop import Trainer
from regkit.training.stages import collect_stages, make_optimizer, prepare
from regkit.training.update import Update


class Snapshot:
    """An observer that keeps the state after some steps."""

    trainer: Trainer

    def __init__(self, after: int, *, ends: bool = False) -> None:
        self.after, self.ends = after, ends  # the run, too
        self.model: dict[str, Tensor] = {}
        self.training: dict[str, Any] = {}

    @hookimpl(trylast=True)
    def after_step(self, step: int) -> None:
        if step + 1 == self.after and not self.model:  # of several stages, the first that comes so far
            self.model = {name: tensor.clone() for name, tensor in self.trainer.model.state_dict().items()}
            self.training = copy.deepcopy(self.trainer.state.capture())
            self.trainer.state.position.ended = self.ends


class Probe:
    """A plugin that records what it draws at every place, and the batches of every task."""

    def __init__(self) -> None:
        self.step = 0
        self.drawn: dict[tuple[int, str], float] = {}  # by step and task
        self.rows: dict[str, dict[int, tuple[int, ...]]] = {}  # of each batch, by task and step

    @hookimpl
    def extra_losses(self, task: Task, batch: Batch) -> Mapping[str, Tensor]:
        self.drawn[self.step, task.name] = float(torch.rand(()))
        self.rows.setdefault(task.name, {})[self.step] = batch.rows
        return {}

    @hookimpl
    def after_step(self, step: int) -> None:
        self.step = step + 1


def same_weights(one: Trainer, other: Trainer) -> None:
    """Raise AssertionError if a parameter differs in a single bit."""
    theirs = dict(other.model.named_parameters())
    for name, parameter in one.model.named_parameters():
        assert torch.equal(parameter, theirs[name]), f"{name} differs"


def prepared(trainer: Trainer) -> tuple[Stage, list[Task]]:
    """Prepare the plugins for the last stage of a run. Returns it with its tasks."""
    *_, (stage, tasks) = collect_stages(trainer.hook, trainer.tasks)
    prepare(trainer.hook, trainer.model, stage, tasks)
    return stage, tasks


def gradients_of(trainer: Trainer, task: Task, micro_batch_tokens: int) -> dict[str, Tensor]:
    """Compute the gradients of the task's second batch, cut into micro-batches, as a step would."""
    stage, _ = prepared(trainer)
    optimizer = make_optimizer(trainer.hook, trainer.model, stage)
    chosen = [(task, Feed(task, 0, stage.name).micro_batches(1, micro_batch_tokens, trainer.processes.count))]
    trainer.model.train()
    with trainer.streams.at(stage.name, 0):
        update = Update(trainer.passes, optimizer, chosen, trainer.processes)
        update.compute()
        trainer.hook.before_step(model=trainer.model, optimizer=optimizer, recompute=update.compute)
    found = {name: parameter.grad for name, parameter in trainer.model.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def exactly(value: Any) -> str:
    """Write every bit of a nesting of dicts, lists, tensors and plain values as text, to be compared."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {value.tolist()}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {exactly(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(exactly, value))}]"
    return repr(value)
