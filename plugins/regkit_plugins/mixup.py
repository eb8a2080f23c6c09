"""Mixup: train on mixtures of two texts and of their labels (Zhang et al., ICLR 2018).

Section 2 of arXiv 1710.09412, on the vectors that the head reads: the senMixup of Guo et al. (2019, arXiv 1905.08941, section
3). Each example is mixed with another of its batch, which is therefore never cut, in a proportion drawn once a batch from
Beta(alpha, alpha). Only the head makes a second pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from regkit import (
    Batch,
    MultitaskModel,
    Positive,
    Regression,
    Share,
    Smoothable,
    Task,
    TaskLoss,
    Tuned,
    check_tasks,
    hookimpl,
)


@dataclass
class Mixup:
    alpha: Annotated[Positive, Tuned(0.1, 2, log=True)] = 1.0
    """Of the Beta distribution: the smaller, the nearer mixtures are to one of the two texts."""
    weight: Annotated[Share, Tuned(0.1, 1)] = 1.0
    """Share of the clean loss that the loss of mixtures replaces: 1 is all of it, as in the papers."""
    tasks: list[str] = field(default_factory=list)
    """Tasks whose texts are mixed, A,B; without names, all."""

    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0}
    whole_batches: ClassVar[bool] = True

    @hookimpl
    def prepare(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        fits = Smoothable | Regression
        check_tasks("mixup", self.tasks, tasks, model, lambda task: isinstance(task.objective, fits))

    @hookimpl
    def extra_losses(
        self, model: MultitaskModel, task: Task, batch: Batch, vectors: Tensor, loss: Tensor, task_loss: TaskLoss
    ) -> Mapping[str, Tensor]:
        if not self.weight or batch.labels is None or (self.tasks and task.name not in self.tasks):
            return {}
        share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        partners = torch.randperm(len(batch)).to(vectors.device)
        output = model.heads[task.name](mixed(vectors, partners, share, batch.sides))
        targets = mixed(as_numbers(task, batch.labels), partners, share)
        return {"mixup": self.weight * (task_loss(output, targets) - loss)}


def as_numbers(task: Task, labels: Tensor) -> Tensor:
    """Write labels so that they can be mixed: classes as distributions, scores as they are."""
    return task.objective.smoothed(labels, 0.0) if isinstance(task.objective, Smoothable) else labels


def mixed(values: Tensor, partners: Tensor, share: float, sides: int = 1) -> Tensor:
    """Mix each example's rows, as many as it has sides, with its partner's: `share` of its own.

    The rows are `[sides * examples, ...]`; the mixtures are in float32 or wider.
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    of_partners = values.reshape(-1, sides, *values.shape[1:])[partners].flatten(0, 1)
    return share * values + (1 - share) * of_partners
