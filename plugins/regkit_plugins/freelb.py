"""FreeLB: train on adversarially perturbed word embeddings, not clean ones (Zhu et al., ICLR 2020).

Algorithm 1 of arXiv 1909.11764: from a random start, gradient ascent on the task's own loss visits `steps` points in a ball
around the word embeddings of an example. The training gradient is the mean over these points. All passes use the same dropout
masks (section 3.3).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from regkit import Batch, NonNegative, Positive, Predict, Task, TaskLoss, Tuned, hookimpl


@dataclass
class FreeLB:
    weight: Annotated[NonNegative, Tuned(0.1, 1)] = 1.0
    """Share of the clean loss that the adversarial loss replaces: 1 replaces all of it, as in the paper."""
    epsilon: Annotated[Positive, Tuned(0.003, 0.1, log=True)] = 0.01
    """Radius of the ball."""
    eta: Annotated[Positive, Tuned(0.001, 0.05, log=True)] = 0.005
    """Length of an ascent step (alpha); below epsilon, or the first step ends on the edge of the ball."""
    steps: Annotated[int, Field(ge=1, le=100)] = 3
    """Points at which the gradient is taken (K)."""
    unit: Literal["norm", "absolute"] = "norm"
    """Unit of epsilon and eta: the L2 norm of the example's word embeddings, or 1 as in the paper."""

    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0}

    @hookimpl
    def extra_losses(
        self, batch: Batch, embeddings: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss
    ) -> Mapping[str, Tensor]:
        if not self.weight:
            return {}
        _, losses = self._ascend(batch, embeddings, lambda moved: task_loss(predict(moved, radius=self._radius)))
        return {"freelb": self.weight * (torch.stack(losses).mean() - loss)}

    @hookimpl
    def measure(self, task: Task, batch: Batch, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        """Report the rise of the loss at the last point and at a random one as far away.

        `at the edge` is the share of examples whose last point is on the edge of the ball.
        """
        if (labels := batch.labels) is None:
            return {}

        def loss(moved: Tensor) -> Tensor:
            return task.objective.loss(predict(moved, radius=self._radius), labels)

        clean = embeddings.detach()
        nudge, losses = self._ascend(batch, clean, loss)
        noise, length = batch.noise(clean, "freelb: anywhere"), _norm(batch, nudge)
        with torch.no_grad():
            still, random = loss(clean + 0), loss(clean + noise * length / _norm(batch, noise))
        edge = (length > 0.999 * self.epsilon * self._unit(batch, clean)).float().mean()
        return {"rise": losses[-1].detach() - still, "rise at random": random - still, "at the edge": edge}

    @property
    def cost(self) -> float:
        """Operations of a step, in those of a plain one, which is three passes' worth."""
        return (4 * self.steps + 2) / 3 if self.weight else 1.0

    @property
    def _radius(self) -> float:
        return self.epsilon if self.unit == "norm" else 0.0  # too fine for bf16, so the pass is made in float32

    def _ascend(
        self, batch: Batch, embeddings: Tensor, loss: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Climb from a random start. Returns the last perturbation and the losses at all points."""
        nudge, losses = self._start(batch, embeddings.detach()), []
        for step in range(self.steps):
            nudge.requires_grad_()
            losses.append(loss(embeddings + nudge))
            if step + 1 < self.steps:
                (gradient,) = torch.autograd.grad(losses[-1], nudge, retain_graph=True)
                nudge = self._climb(batch, embeddings.detach(), nudge.detach(), gradient)
        return nudge.detach(), losses

    def _start(self, batch: Batch, embeddings: Tensor) -> Tensor:
        """Draw the start: uniform in [-epsilon, epsilon], over the root of the number of coordinates."""
        coordinates = _norm(batch, torch.ones_like(embeddings))
        return self.epsilon * self._unit(batch, embeddings) * batch.noise(embeddings, "freelb", "uniform") / coordinates

    def _climb(self, batch: Batch, embeddings: Tensor, nudge: Tensor, gradient: Tensor) -> Tensor:
        """Take an ascent step and project into the ball; norms are over the whole example."""
        unit = self._unit(batch, embeddings)
        nudge = nudge + self.eta * unit * gradient / _norm(batch, gradient)
        return nudge * (self.epsilon * unit / _norm(batch, nudge)).clamp(max=1.0)

    def _unit(self, batch: Batch, embeddings: Tensor) -> Tensor:
        """Compute the unit of epsilon and eta for each token: `[tokens, 1]`."""
        return _norm(batch, embeddings) if self.unit == "norm" else torch.ones_like(embeddings[:, :1])


def _norm(batch: Batch, values: Tensor) -> Tensor:
    """Compute the L2 norm of each token's example: `[tokens, 1]`."""
    norms = batch.per_example(values.square(), "sum").sqrt().clamp(min=torch.finfo(values.dtype).tiny)
    return batch.to_tokens(norms)[:, None]
