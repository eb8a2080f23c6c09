"""VAT: keep predictions where a small step changes them most (Miyato et al., TPAMI 2019).

Virtual adversarial training, section 3.2 and algorithm 1 of arXiv 1704.03976, on word embeddings as Miyato et al. (ICLR 2017,
arXiv 1605.07725) have it: one perturbation for all words of an example, of a given L2 norm, in the direction that power
iteration finds. The clean prediction is the target, held fixed. All passes have the dropout masks of the clean one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from regkit import (
    Batch,
    Distributional,
    NonNegative,
    PluginError,
    Positive,
    Predict,
    Regression,
    Task,
    Tuned,
    hookimpl,
)


@dataclass
class VAT:
    weight: Annotated[NonNegative, Tuned(0.1, 10, log=True)] = 1.0
    """Strength of the term (alpha)."""
    epsilon: Annotated[NonNegative, Tuned(0.003, 0.3, log=True)] = 0.02
    """Norm of the perturbation, in units of the norm of the example's word embeddings."""
    xi: Positive = 0.001
    """Norm of the step by which power iteration looks for the direction, in the same unit."""
    steps: Annotated[int, Field(ge=1, le=100)] = 1
    """Power iterations (K); each costs two thirds of a plain step."""

    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0, "epsilon": 0.0}

    @hookimpl
    def prepare(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if not isinstance(task.objective, Distributional | Regression):
                raise PluginError(
                    f"'vat' compares distributions or scores, and task '{task.name}' ({task.objective.kind}) has neither; "
                    "leave 'vat' out."
                )

    @hookimpl
    def extra_losses(self, task: Task, batch: Batch, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        if not self.weight or not self.epsilon:
            return {}
        distance = self._distance(task, embeddings, predict)
        nudge = self.epsilon * _norm(batch, embeddings.detach()) * self.direction(batch, embeddings.detach(), distance)
        return {"vat": self.weight * distance(embeddings + nudge)}

    @hookimpl
    def measure(self, task: Task, batch: Batch, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        """Report the divergence in the direction found, divided by that in a random one, as far away."""
        if not self.epsilon:
            return {}
        clean, distance = embeddings.detach(), self._distance(task, embeddings, predict)
        size = self.epsilon * _norm(batch, clean)
        random = _unit(batch, batch.noise(clean, "vat: anywhere"))
        found = self.direction(batch, clean, distance)
        with torch.no_grad():
            return {"over random": distance(clean + size * found) / distance(clean + size * random).clamp(min=1e-30)}

    def direction(self, batch: Batch, embeddings: Tensor, distance: Callable[[Tensor], Tensor]) -> Tensor:
        """Find the direction in which the prediction changes most: `[tokens, width]`, of norm 1 an example."""
        found, size = _unit(batch, batch.noise(embeddings, "vat")), self.xi * _norm(batch, embeddings)
        for _ in range(self.steps):
            moved = (embeddings + size * found).requires_grad_()
            (gradient,) = torch.autograd.grad(distance(moved), moved)
            found = _unit(batch, gradient)
        return found

    @property
    def radius(self) -> float:
        """How far its passes are from the clean one at least, in units of the RMS."""
        return min(self.xi, self.epsilon)

    def _distance(self, task: Task, embeddings: Tensor, predict: Predict) -> Callable[[Tensor], Tensor]:
        """Make the function that tells how far embeddings move the prediction from the clean one."""
        predict = partial(predict, radius=self.radius)
        with torch.no_grad():
            target = predict(embeddings).detach()
        return lambda moved: divergence(task, target, predict(moved))


def divergence(task: Task, target: Tensor, output: Tensor) -> Tensor:
    """Compute KL(target, output), or the squared difference of scores: a scalar, the mean over examples."""
    if isinstance(task.objective, Distributional):
        log_p, log_q = (task.objective.log_probabilities(each) for each in (target, output))
        terms = (log_p.exp() * (log_p - log_q)).sum(-1)
        return terms.sum() / max(terms.numel(), 1)
    return task.objective.divergence(output, target)


def _norm(batch: Batch, values: Tensor) -> Tensor:
    """Compute the L2 norm of each token's example: `[tokens, width]` to `[tokens, 1]`."""
    return batch.to_tokens(batch.per_example(values.square().sum(1), "sum").sqrt())[:, None]


def _unit(batch: Batch, values: Tensor) -> Tensor:
    """Scale each example to a norm of 1; zeros stay.

    The squares of gradients as small as these would be 0.
    """
    tiny = torch.finfo(values.dtype).tiny
    values = values / batch.to_tokens(batch.per_example(values.abs(), "amax").clamp(min=tiny))[:, None]
    return values / _norm(batch, values).clamp(min=tiny)
