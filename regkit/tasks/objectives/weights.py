"""Weights: how much each class counts in the loss, so that a rare one is learned too."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from regkit.tasks.objectives.binary import Binary
from regkit.tasks.objectives.classification import Classification
from regkit.tasks.objectives.multilabel import Multilabel
from regkit.tasks.objectives.ordinal import Ordinal

OfWeights = Classification | Binary | Multilabel | Ordinal  # kinds that class weights are for


def weighted(objective: OfWeights, labels: Tensor, given: Literal["balanced"] | Sequence[float]) -> OfWeights:
    """Give the classes weights whose mean over the examples with these labels is 1.

    `balanced` makes all classes count the same together, whatever their numbers of examples; a class without any counts as
    if it had one. Otherwise a weight is `given` for each class, or for yes against no for each label of a multilabel task.
    """
    counts = _count(objective, labels).double()
    weights = 1 / counts.clamp(min=1) if given == "balanced" else _chosen(objective, given)
    weights = weights * counts.sum(-1, keepdim=True) / (weights * counts).sum(-1, keepdim=True)
    if isinstance(objective, Multilabel):
        return replace(objective, weights=tuple((no, yes) for no, yes in weights.tolist()))
    return replace(objective, weights=tuple(weights.tolist()))


def _count(objective: OfWeights, labels: Tensor) -> Tensor:
    """Count the examples of each class, `[classes]`, or those of no and yes for each label, `[labels, 2]`."""
    if isinstance(objective, Multilabel):
        return torch.stack([(1 - labels).sum(0), labels.sum(0)], dim=-1)
    return torch.bincount(labels, minlength=2 if isinstance(objective, Binary) else objective.classes)


def _chosen(objective: OfWeights, given: Sequence[float]) -> Tensor:
    """Put the given weights into the form of the counts."""
    weights = torch.tensor(given, dtype=torch.float64)
    return torch.stack([torch.ones_like(weights), weights], dim=-1) if isinstance(objective, Multilabel) else weights
