"""Objective: what the core and the plugins ask of a kind of output."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from regkit.tasks.batch import Batch
from regkit.tasks.scores import Metric

Scores = Mapping[str, float]
Label = float | Sequence[float]  # of an example: a class or a score, or a number for each class


class Objective(Protocol):
    """How outputs of one kind are trained, compared and scored.

    The core and the plugins use nothing else of an output.
    """

    kind: ClassVar[str]
    scores: ClassVar[Mapping[str, Metric]]  # every score that `metrics` gives
    label_type: ClassVar[torch.dtype]

    @property
    def metric(self) -> str:
        """The score that decides which checkpoint is best."""
        ...

    @property
    def width(self) -> int:
        """The number of outputs that the head gives for an example; with 1, the output is `[examples]`."""
        ...

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compute how wrong the output is: a scalar, the mean over examples.

        Labels are `[examples]`, or `[examples, classes]` for kinds whose label is a number for each class.
        """
        ...

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        """Compute how far apart two outputs are: a scalar, the mean over examples.

        It is symmetric, and 0 for equal outputs. Raises ValueError if the shapes differ.
        """
        ...

    def prediction(self, output: Tensor) -> Tensor:
        """Turn an output into predictions, in the form of the labels."""
        ...

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        """Reduce a batch's output to what `metrics` needs: one row for each example, often the output itself."""
        ...

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        """Compute the scores of a whole split that its labels define, its mean loss among them."""
        ...

    def label(self, text: str) -> Label:
        """Read a label as a table writes it; several columns are a JSON list.

        Raises ValueError, which says what is needed instead.
        """
        ...

    def text(self, label: Any) -> str:
        """Write a label or prediction as a table does."""
        ...


@runtime_checkable
class Probabilistic(Objective, Protocol):
    """An objective of classes, each of which it gives a probability."""

    def probabilities(self, output: Tensor) -> Tensor:
        """Compute the probability of each class, `[examples, classes]`."""
        ...


@runtime_checkable
class Distributional(Objective, Protocol):
    """An objective whose output is a distribution of outcomes for each prediction."""

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Compute the log-probability of each outcome, in the last dimension: `[examples, ..., outcomes]`."""
        ...


@runtime_checkable
class Smoothable(Distributional, Protocol):
    """An objective whose labels are classes or chances of them, so that they can be smoothed and mixed."""

    def smoothed(self, labels: Tensor, share: float) -> Tensor:
        """Write labels or chances as chances, with this share spread over all classes: labels for `loss`.

        They are `[examples, classes]`; where each is yes or no, the chances of yes, in the form of the labels.
        """
        ...


@runtime_checkable
class Mixable(Objective, Protocol):
    """An objective of which several models' outputs for the same examples have a mean."""

    def mixture(self, outputs: Tensor) -> Tensor:
        """Compute the output for the mean of several models' answers, from `[models, examples, ...]`.

        Of classes it has the mean of their probabilities, and of scores their mean.
        """
        ...


def differ(values: Tensor) -> bool:
    """Whether the examples differ in these labels or predictions: `[examples]`, or `[examples, classes]`."""
    return bool((values != values[0]).any())


def defined(objective: Objective, labels: Tensor) -> list[str]:
    """List the scores that the labels of a split define."""
    contrast = differ(labels)
    return [name for name, metric in objective.scores.items() if contrast or not metric.needs_contrast]
