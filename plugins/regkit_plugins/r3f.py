"""R3F: keep predictions when word embeddings are randomly perturbed (Aghajanyan et al., ICLR 2021).

Section 3 of arXiv 2008.03156. It is SMART without the search for the worst direction. The noisy pass uses the dropout
masks of the clean pass. With masks of its own, the term would measure dropout, as R-Drop does, instead of the noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from regkit import Batch, NonNegative, Predict, Task, Tuned, hookimpl


@dataclass
class R3F:
    weight: Annotated[NonNegative, Tuned(0.1, 10, log=True)] = 1.0
    """Strength of the term (lambda)."""
    sigma: Annotated[NonNegative, Tuned(0.03, 1, log=True)] = 0.3
    """Size of the noise: its standard deviation, or half the width of the uniform distribution."""
    noise: Annotated[Literal["normal", "uniform"], Tuned()] = "normal"
    """Distribution of the noise."""
    unit: Literal["rms", "absolute"] = "rms"
    """Unit of sigma: the RMS of the example's word embeddings, or 1 as in the paper."""

    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0, "sigma": 0.0}

    @hookimpl
    def extra_losses(self, task: Task, batch: Batch, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        if not self.weight or not self.sigma:
            return {}
        predict = partial(predict, radius=self.radius)
        nudge = self._size(batch, embeddings.detach()) * batch.noise(embeddings, "r3f", self.noise)
        return {"r3f": self.weight * task.objective.divergence(predict(embeddings + nudge), predict(embeddings))}

    @property
    def cost(self) -> float:
        """Operations of a step, in those of a plain one: it has one more pass, forward and backward."""
        return 2.0 if self.weight and self.sigma else 1.0

    @property
    def radius(self) -> float:
        """How far its passes are from the clean one, in units of the RMS; 0 where that is not known."""
        return self.sigma if self.unit == "rms" else 0.0

    def _size(self, batch: Batch, embeddings: Tensor) -> Tensor:
        """Compute the size of the noise for each token: `[tokens, 1]`."""
        unit = batch.rms(embeddings) if self.unit == "rms" else torch.ones_like(embeddings[:, :1])
        return self.sigma * unit

    @hookimpl
    def measure(self, task: Task, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        """Report the term without noise: it is 0 up to rounding if it measures the noise alone."""
        predict = partial(predict, radius=self.radius)
        with torch.no_grad():
            return {"floor": self.weight * task.objective.divergence(predict(embeddings + 0), predict(embeddings))}
