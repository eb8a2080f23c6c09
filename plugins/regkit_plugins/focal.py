"""Focal loss: count examples less that are predicted well already (Lin et al., ICCV 2017).

Equation 5 of arXiv 1708.02002: the cross-entropy of an example, times (1 - p)^gamma, where p is the probability of its label.
Class weights of the task take the place of that paper's alpha. The mean is over examples; each label of a multilabel task is
a yes or no of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from regkit import (
    Batch,
    Binary,
    Classification,
    Multilabel,
    MultitaskModel,
    Ordinal,
    Task,
    Tuned,
    check_tasks,
    hookimpl,
)

OfClasses = Binary | Classification | Multilabel | Ordinal


@dataclass
class Focal:
    gamma: Annotated[float, Field(ge=0, le=100), Tuned(0.5, 5)] = 2.0
    """How strongly well predicted examples are counted less; 0 is the cross-entropy."""
    tasks: list[str] = field(default_factory=list)
    """Tasks that have this loss, A,B; without names, all."""

    neutral: ClassVar[Mapping[str, float]] = {"gamma": 0.0}

    @hookimpl
    def prepare(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        check_tasks("focal", self.tasks, tasks, model, lambda task: isinstance(task.objective, OfClasses))

    @hookimpl
    def task_loss(self, task: Task, batch: Batch, output: Tensor) -> Tensor:
        """Compute the focal loss, or the objective's own for a task that is not named."""
        assert batch.labels is not None
        named = not self.tasks or task.name in self.tasks
        if not (self.gamma and named and isinstance(task.objective, OfClasses)):
            return task.objective.loss(output, batch.labels)
        return focal_loss(task.objective, output, batch.labels, self.gamma)


def focal_loss(objective: OfClasses, output: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Compute the focal loss: a scalar, the mean over examples.

    Labels may be distributions, of which it is the mixture of losses.
    """
    log_p = objective.log_probabilities(output)  # [examples, classes], or [examples, labels, 2]
    targets = objective.smoothed(labels, 0.0)
    if targets.dim() < log_p.dim():  # chances of yes
        targets = torch.stack([1 - targets, targets], dim=-1)
    rest = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)  # 1 - p; the power has no slope at 0
    weights = log_p.new_tensor(objective.weights) if objective.weights else 1.0  # note: a copy waits for the GPU
    return -(weights * targets * rest**gamma * log_p).sum(-1).mean()
