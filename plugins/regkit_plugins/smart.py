"""SMART: predictions stay put when word embeddings move a little, in the worst direction (Jiang et al., ACL 2020).

Algorithm 1 of arXiv 1911.03437, without the Bregman term of that paper. The inner passes and the final one replay the
dropout masks of the clean pass; with masks of their own, the term would measure dropout (R-Drop).

Cost with one inner step: 2.67 times the operations of a plain step. Under bf16 autocast a radius too fine for the type is
worked on in float32, clean pass included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from regkit import Batch, Predict, Task, hookimpl

FINEST = 2**-5  # of the RMS: below this radius, bf16 would round most of a perturbation away
Positive = Annotated[float, Field(gt=0)]


@dataclass
class Smart:
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Strength of the term (lambda_s)."""
    epsilon: Positive = 0.1
    """Radius of the box around each word embedding, per coordinate."""
    sigma: Positive = 0.1
    """Standard deviation of the random start."""
    eta: Positive = 10.0
    """Length of an ascent step, for the coordinate with the largest gradient of its example."""
    steps: Annotated[int, Field(ge=1)] = 1
    """Ascent steps (K); each costs two thirds of a plain step."""
    unit: Literal["rms", "absolute"] = "rms"
    """What epsilon, sigma and eta are measured in: the RMS of the example's word embeddings, or 1 as in the paper."""

    @hookimpl
    def extra_losses(
        self, task: Task, batch: Batch, embeddings: Tensor, output: Tensor, predict: Predict
    ) -> Mapping[str, Tensor]:
        if not self.weight:
            return {}
        kind, fine = embeddings.device.type, self.unit == "absolute" or self.epsilon < FINEST
        if torch.is_autocast_enabled(kind) and fine:
            with torch.autocast(kind, enabled=False):  # one more pass: the clean output, too, must be float32
                return self._term(task, batch, embeddings, predict(embeddings), predict)
        return self._term(task, batch, embeddings, output, predict)

    def _term(
        self, task: Task, batch: Batch, embeddings: Tensor, output: Tensor, predict: Predict
    ) -> Mapping[str, Tensor]:
        nudge = self.adversary(task, batch, embeddings.detach(), output.detach(), predict)
        return {"smart": self.weight * task.objective.divergence(predict(embeddings + nudge), output)}

    def adversary(self, task: Task, batch: Batch, embeddings: Tensor, output: Tensor, predict: Predict) -> Tensor:
        """The perturbation, `[tokens, width]`, that moves the output most, as far as `steps` of ascent find it."""
        unit = self._unit(batch, embeddings)
        nudge = self.sigma * unit * batch.noise(embeddings, "smart")
        for _ in range(self.steps):
            nudge.requires_grad_()
            distance = task.objective.divergence(output, predict(embeddings + nudge))
            (gradient,) = torch.autograd.grad(distance, nudge)
            largest = batch.per_example(gradient.abs(), "amax").clamp(min=torch.finfo(gradient.dtype).tiny)
            ascent = self.eta * unit * gradient / batch.to_tokens(largest)[:, None]
            nudge = (nudge.detach() + ascent).clamp(-self.epsilon * unit, self.epsilon * unit)
        return nudge

    def _unit(self, batch: Batch, embeddings: Tensor) -> Tensor:
        """[tokens, 1]"""
        if self.unit == "absolute":
            return torch.ones_like(embeddings[:, :1])
        return batch.to_tokens(batch.per_example(embeddings.square(), "mean").sqrt())[:, None]
