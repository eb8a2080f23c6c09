"""FreeLB: train at the points of an adversary's climb, not at the clean one (Zhu et al., ICLR 2020).

Algorithm 1 of arXiv 1909.11764: from a random start, `steps` ascents of the task's own loss in a ball around the word
embeddings of a text; the gradient is the mean over the points passed. The same dropout masks throughout (section 3.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from regkit import Batch, Predict, TaskLoss, hookimpl

Positive = Annotated[float, Field(gt=0)]


@dataclass
class FreeLB:
    weight: Annotated[float, Field(ge=0)] = 1.0
    """How much of the clean loss gives way to the adversarial one: all of it with 1, as in the paper."""
    epsilon: Positive = 0.1
    """Radius of the ball."""
    eta: Positive = 0.1
    """Length of an ascent step (alpha)."""
    steps: Annotated[int, Field(ge=1)] = 3
    """Points at which the gradient is taken (K)."""
    unit: Literal["norm", "absolute"] = "norm"
    """What epsilon and eta are measured in: the L2 norm of the example's word embeddings, or 1 as in the paper."""

    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0}

    @hookimpl
    def extra_losses(
        self, batch: Batch, embeddings: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss
    ) -> Mapping[str, Tensor]:
        if not self.weight:
            return {}
        predict = partial(predict, radius=self.epsilon if self.unit == "norm" else 0.0)
        nudge, losses = self._start(batch, embeddings.detach()), []
        for step in range(self.steps):
            nudge.requires_grad_()
            losses.append(task_loss(predict(embeddings + nudge)))
            if step + 1 < self.steps:
                (gradient,) = torch.autograd.grad(losses[-1], nudge, retain_graph=True)
                nudge = self._climb(batch, embeddings.detach(), nudge.detach(), gradient)
        return {"freelb": self.weight * (torch.stack(losses).mean() - loss)}

    def _start(self, batch: Batch, embeddings: Tensor) -> Tensor:
        """Uniform in [-epsilon, epsilon], over the square root of the number of the example's coordinates."""
        coordinates = _norm(batch, torch.ones_like(embeddings))
        return self.epsilon * self._unit(batch, embeddings) * batch.noise(embeddings, "freelb", "uniform") / coordinates

    def _climb(self, batch: Batch, embeddings: Tensor, nudge: Tensor, gradient: Tensor) -> Tensor:
        """One step up, and back into the ball; norms are over the example's tokens and dimensions."""
        unit = self._unit(batch, embeddings)
        nudge = nudge + self.eta * unit * gradient / _norm(batch, gradient)
        return nudge * (self.epsilon * unit / _norm(batch, nudge)).clamp(max=1.0)

    def _unit(self, batch: Batch, embeddings: Tensor) -> Tensor:
        """[tokens, 1]"""
        return _norm(batch, embeddings) if self.unit == "norm" else torch.ones_like(embeddings[:, :1])


def _norm(batch: Batch, values: Tensor) -> Tensor:
    """[tokens, 1]: the L2 norm of the token's example."""
    norms = batch.per_example(values.square(), "sum").sqrt().clamp(min=torch.finfo(values.dtype).tiny)
    return batch.to_tokens(norms)[:, None]
