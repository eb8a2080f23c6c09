"""PolyLoss: add to the cross-entropy a multiple of the probability that the label does not get (Leng et al., 2022)."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from regkit import Batch, MultitaskModel, Smoothable, Task, check_tasks, hookimpl


@dataclass
class PolyLoss:
    epsilon: float = 1.0
    """Weight of 1 - p, where p is the probability of the label."""
    tasks: list[str] = field(default_factory=list)
    """Tasks that have this loss, `A,B`; without names, all."""

    neutral: ClassVar[Mapping[str, float]] = {"epsilon": 0.0}

    @hookimpl
    def prepare(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        check_tasks("poly_loss", self.tasks, tasks, model, lambda task: isinstance(task.objective, Smoothable))

    @hookimpl(wrapper=True)
    def task_loss(self, task: Task, batch: Batch, output: Tensor) -> Generator[None, Tensor, Tensor]:
        loss = yield
        if (self.tasks and task.name not in self.tasks) or not isinstance(task.objective, Smoothable):
            return loss
        assert batch.labels is not None
        chances = task.objective.log_probabilities(output).exp()
        targets = task.objective.smoothed(batch.labels, 0)
        if targets.dim() < chances.dim():  # of yes or no, the chance of yes
            targets = torch.stack([1 - targets, targets], dim=-1)
        return loss + self.epsilon * (1 - (targets * chances).sum(-1).mean())
