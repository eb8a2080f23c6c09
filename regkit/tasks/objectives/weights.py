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
    if given == "balanced":
        return balanced(objective, labels)
    return _scaled(objective, labels, _chosen(objective, given))


def balanced(objective: OfWeights, labels: Tensor, power: float = 1.0) -> OfWeights:
    """Give each class the weight n^-power of its n examples, scaled to a mean of 1 over examples.

    They are those with these labels. A power of 1 makes all classes count the same together, 0 all examples. A class
    without any counts as if it had one.
    """
    return _scaled(objective, labels, _count(objective, labels).double().clamp(min=1) ** -power)


def _scaled(objective: OfWeights, labels: Tensor, weights: Tensor) -> OfWeights:
    counts = _count(objective, labels).double()
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
