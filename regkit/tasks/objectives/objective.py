"""Objective: what the core and the plugins ask of a kind of output."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from regkit.tasks.batch import Batch

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Metric:
    """How a score is to be read, and when there is one."""

    lower_is_better: bool = False
    needs_contrast: bool = False  # compares examples whose labels differ: where all are alike, it is not defined


LOSS = Metric(lower_is_better=True)


class Objective(Protocol):
    """How outputs of one kind are trained, compared and scored.

    The core and the plugins use nothing else of an output.
    """

    kind: ClassVar[str]
    scores: ClassVar[Mapping[str, Metric]]  # every score that `metrics` gives
    metric: ClassVar[str]  # the one that decides which checkpoint is best; higher is better
    label_type: ClassVar[torch.dtype]

    @property
    def width(self) -> int:
        """The number of outputs that the head gives for an example; with 1, the output is `[examples]`."""
        ...

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compute how wrong the output is: a scalar, the mean over examples."""
        ...

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        """Compute how far apart two outputs are: a scalar, the mean over examples.

        It is symmetric, and 0 for equal outputs. Raises ValueError if the shapes differ.
        """
        ...

    def prediction(self, output: Tensor) -> Tensor:
        """Turn an output into predicted labels: `[examples]`, a class or a score each."""
        ...

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        """Reduce a batch's output to what `metrics` needs: one row for each example, often the output itself."""
        ...

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        """Compute the scores of a whole split that its labels define, its mean loss among them."""
        ...

    def label(self, text: str) -> float:
        """Read a label as a table writes it. Raises ValueError, which says what is needed instead."""
        ...

    def text(self, label: float) -> str:
        """Write a label or prediction as a table does."""
        ...


def differ(values: Tensor) -> bool:
    """Whether the examples differ in these labels or predictions: `[examples]`."""
    return bool((values != values[0]).any())


def defined(objective: Objective, labels: Tensor) -> list[str]:
    """List the scores that the labels of a split define."""
    contrast = differ(labels)
    return [name for name, metric in objective.scores.items() if contrast or not metric.needs_contrast]
