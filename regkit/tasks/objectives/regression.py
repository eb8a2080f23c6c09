"""Regression: a score on a range."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from regkit.tasks.batch import Batch
from regkit.tasks.labels import as_number
from regkit.tasks.objectives import metrics
from regkit.tasks.objectives.checks import check_metric
from regkit.tasks.objectives.numbers import same_shape, wide
from regkit.tasks.objectives.objective import Scores, differ
from regkit.tasks.scores import SCORES, Metric

SCALE = 5.0  # the end of the scale of every regression, which begins at 0: that of STS, for which its head is made


@dataclass(frozen=True)
class Regression:
    """A score on a range; the output is `[examples]`, on a scale from 0 to 5 that stands for it.

    So nothing that is learned depends on the unit of the table: outputs, labels, loss, divergence and predictions are on the
    scale, and only `label` and `text` know the range. A table of 0 to 5, such as STS, is on the scale as it is.
    """

    low: float
    high: float
    metric: str = field(default="pearson", repr=False)
    kind: ClassVar[str] = "regression"
    scores: ClassVar[Mapping[str, Metric]] = SCORES[kind]
    label_type: ClassVar[torch.dtype] = torch.float32
    width: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 < self.high - self.low < math.inf:
            raise ValueError(
                f"a regression task needs its lowest score below its highest, not {self.low} and {self.high}"
            )
        check_metric(self.kind, self.metric)

    def __repr__(self) -> str:
        """Name range and scale; a run's head is known by it, and was once in the unit of the table."""
        scale = "" if (self.low, self.high) == (0, SCALE) else f", scale={SCALE:g}"
        return f"Regression(low={self.low}, high={self.high}{scale})"

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        return self.divergence(output, labels)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        """Compute the squared difference on the scale: from one end of the range to the other it is 25."""
        same_shape(output, other)
        return (wide(output) - wide(other)).square().mean()

    def prediction(self, output: Tensor) -> Tensor:
        return output.float().clamp(0, SCALE)

    def mixture(self, outputs: Tensor) -> Tensor:
        return outputs.double().mean(0).float()

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        return output

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        truth, guess = labels.double().numpy(), evidence.double().numpy()
        loss = float(self.loss(evidence, labels))
        if not differ(labels):
            return {"loss": loss}
        if np.ptp(guess) == 0:  # a constant prediction correlates with nothing
            return {"pearson": 0.0, "spearman": 0.0, "loss": loss}
        return {
            "pearson": metrics.pearson(truth, guess),
            "spearman": metrics.spearman(truth, guess),
            "loss": loss,
        }

    def label(self, text: str) -> float:
        """Read a number of the table onto the scale. Raises ValueError, which says what is needed instead."""
        value = as_number(text.strip())
        if value is None or not self.low <= value <= self.high:
            raise ValueError(f"a number from {self.text(0)} to {self.text(SCALE)}")
        return self._on_scale(value)

    def text(self, label: float) -> str:
        """Write a point of the scale in the table's unit, in the fewest decimals that read back the same."""
        value = min(max(self.low + label * self.unit, self.low), self.high)
        texts = (f"{value:z.{decimals}f}" for decimals in count())
        return next(text for text in texts if self._alike(float(text), value))

    def _alike(self, written: float, value: float) -> bool:
        """Whether a number is in the range, and on the scale the same float32 as another."""
        same = np.float32(self._on_scale(written)) == np.float32(self._on_scale(value))
        return bool(same) and self.low <= written <= self.high

    def _on_scale(self, value: float) -> float:
        return (value - self.low) / self.unit

    @property
    def unit(self) -> float:
        """The length of a point of the scale in the table's unit."""
        return (self.high - self.low) / SCALE
