"""FreeLB: train on adversarially perturbed word embeddings, not clean ones (Zhu et al., ICLR 2020).

Algorithm 1 of arXiv 1909.11764: from a random start, gradient ascent on the task's own loss visits `steps` points in a ball
around the word embeddings of an example. The training gradient is the mean over these points. All passes use the same dropout
masks (section 3.3). As there, one backward pass at a point gives the gradient of the weights and that of the ascent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from regkit import Batch, NonNegative, Positive, Predict, Task, TaskLoss, Tuned, hookimpl
from regkit_plugins.freelb.early import EarlyLosses, skip_backward_where_cancelled


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

        def at(moved: Tensor) -> Tensor:
            return task_loss(predict(moved, radius=self.radius))

        early = EarlyLosses(embeddings)
        nudge = self._ascend(batch, embeddings.detach(), lambda moved: early.add(moved, at(moved)))
        mean = (early.total() + at(embeddings + nudge)) / self.steps
        skip_backward_where_cancelled(loss)
        return {"freelb": self.weight * (mean - loss)}

    @hookimpl
    def measure(self, task: Task, batch: Batch, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        """Report the rise of the loss at the last point and at a random one as far away.

        `at the edge` is the share of examples whose last point is on the edge of the ball.
        """
        if (labels := batch.labels) is None:
            return {}

        def loss(moved: Tensor) -> Tensor:
            return task.objective.loss(predict(moved, radius=self.radius), labels)

        clean = embeddings.detach()
        nudge = self._ascend(batch, clean, lambda moved: torch.autograd.grad(loss(moved), moved)[0])
        noise, length = batch.noise(clean, "freelb: anywhere"), _norm(batch, nudge)
        with torch.no_grad():
            moves = (0 * nudge, nudge, noise * length / _norm(batch, noise))
            still, last, random = (loss(clean + move) for move in moves)
        edge = (length > 0.999 * self.epsilon * self._unit(batch, clean)).float().mean()
        return {"rise": last - still, "rise at random": random - still, "at the edge": edge}

    @property
    def cost(self) -> float:
        """Operations of a step, in those of a plain one; with weight 1 the clean pass is a forward pass alone."""
        if not self.weight:
            return 1.0
        return self.steps + (1 / 3 if self.weight == 1 else 1)

    @property
    def radius(self) -> float:
        """How far its passes are from the clean one, in units of the RMS; 0 where that is not known."""
        return self.epsilon if self.unit == "norm" else 0.0

    def _ascend(self, batch: Batch, embeddings: Tensor, gradient: Callable[[Tensor], Tensor]) -> Tensor:
        """Climb from a random start to the last point, by the gradient at each point before.

        Returns the perturbation.
        """
        nudge = self._start(batch, embeddings)
        for _ in range(self.steps - 1):
            nudge = self._climb(batch, embeddings, nudge, gradient((embeddings + nudge).requires_grad_()))
        return nudge

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
