"""SMART: keep predictions under worst-case perturbations of word embeddings (Jiang et al., ACL 2020).

Algorithm 1 of arXiv 1911.03437; the Bregman term of that paper is the plugin `bregman`. The inner passes and the final one
use the dropout masks of the clean pass. With masks of their own, the term would measure dropout, as R-Drop does.

Cost with one inner step: 2.67 times the operations of a plain step. Under bf16 autocast, a radius too fine for bf16 is
computed in TF32 or float32, clean pass included.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from regkit import Batch, NonNegative, Positive, Predict, Task, Tuned, hookimpl

ACROSS = 100  # radii that the coordinate with the largest gradient would go: so most others reach the edge, too


@dataclass
class Smart:
    weight: Annotated[NonNegative, Tuned(0.1, 10, log=True)] = 1.0
    """Strength of the term (lambda_s)."""
    epsilon: Annotated[NonNegative, Tuned(0.003, 0.3, log=True)] = 0.01
    """Radius of the box around each word embedding, per coordinate."""
    sigma: Positive | None = None
    """Standard deviation of the random start. Without it, epsilon."""
    eta: Positive | None = None
    """Length of an ascent step, for the coordinate with the largest gradient of its example. Without it, 100 epsilon."""
    steps: Annotated[int, Field(ge=1, le=100)] = 1
    """Ascent steps (K); each costs two thirds of a plain step."""
    unit: Literal["rms", "absolute"] = "rms"
    """Unit of epsilon, sigma and eta: the RMS of the example's word embeddings, or 1 as in the paper."""

    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0, "epsilon": 0.0}

    @hookimpl
    def extra_losses(self, task: Task, batch: Batch, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        if not self.weight or not self.epsilon:
            return {}
        predict = partial(predict, radius=self.radius)
        output = predict(embeddings)
        nudge = self.adversary(task, batch, embeddings.detach(), output.detach(), predict)
        return {"smart": self.weight * task.objective.divergence(predict(embeddings + nudge), output)}

    @hookimpl
    def measure(self, task: Task, batch: Batch, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        """Report whether the search finds more than nothing and more than a random corner.

        `floor` is the term where nothing moves. `over random` divides the divergence at the perturbation found by that at a
        random corner of the box. `at the edge` is the share of coordinates on the edge of the box.
        """
        if not self.epsilon:
            return {}
        predict = partial(predict, radius=self.radius)
        clean, output = embeddings.detach(), predict(embeddings).detach()
        nudge = self.adversary(task, batch, clean, output, predict)
        reach = self.epsilon * self._unit(batch, clean)
        corner = reach * batch.noise(clean, "smart: a corner").sign()
        with torch.no_grad():
            floor, found, random = (
                task.objective.divergence(predict(clean + move), output) for move in (0 * nudge, nudge, corner)
            )
        edge = (nudge.abs() > 0.999 * reach).float().mean()
        return {"floor": self.weight * floor, "over random": found / random.clamp(min=1e-30), "at the edge": edge}

    def adversary(self, task: Task, batch: Batch, embeddings: Tensor, output: Tensor, predict: Predict) -> Tensor:
        """Find the perturbation, `[tokens, width]`, that changes the output most, by gradient ascent."""
        unit = self._unit(batch, embeddings)
        sigma = self.epsilon if self.sigma is None else self.sigma
        eta = ACROSS * self.epsilon if self.eta is None else self.eta
        nudge = sigma * unit * batch.noise(embeddings, "smart")
        for _ in range(self.steps):
            nudge.requires_grad_()
            distance = task.objective.divergence(output, predict(embeddings + nudge))
            (gradient,) = torch.autograd.grad(distance, nudge)
            largest = batch.per_example(gradient.abs(), "amax").clamp(min=torch.finfo(gradient.dtype).tiny)
            ascent = eta * unit * gradient / batch.to_tokens(largest)[:, None]
            nudge = (nudge.detach() + ascent).clamp(-self.epsilon * unit, self.epsilon * unit)
        return nudge

    @property
    def cost(self) -> float:
        """Operations of a step, in those of a plain one: of eight passes' worth, each ascent step takes two."""
        return (6 + 2 * self.steps) / 3 if self.weight and self.epsilon else 1.0

    @property
    def radius(self) -> float:
        """How far its passes are from the clean one, in units of the RMS; 0 where that is not known."""
        return self.epsilon if self.unit == "rms" else 0.0

    def _unit(self, batch: Batch, embeddings: Tensor) -> Tensor:
        """Compute the unit of epsilon, sigma and eta for each token: `[tokens, 1]`."""
        return batch.rms(embeddings) if self.unit == "rms" else torch.ones_like(embeddings[:, :1])
