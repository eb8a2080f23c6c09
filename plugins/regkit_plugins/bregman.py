"""Bregman: keep predictions near those of a slower copy of the model (Jiang et al., ACL 2020).

Section 3.2 of arXiv 1911.03437, the momentum form. Together with `smart` it is that paper's complete method. The teacher
is the exponential moving average of the weights, heads included, in evaluation mode and float32. It is updated once per step.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from regkit import Batch, MultitaskModel, NonNegative, Predict, Share, Task, Tuned, hookimpl


@dataclass
class Bregman:
    weight: Annotated[NonNegative, Tuned(0.1, 10, log=True)] = 1.0
    """Strength of the term (mu)."""
    beta: Annotated[Share, Tuned(0.9, 0.999)] = 0.999
    """Decay of the teacher: how much of it is kept at each update."""
    early_beta: Share = 0.99
    """Decay in the first tenth of the updates; set both to the same value for a constant decay."""
    teacher: MultitaskModel = field(init=False, repr=False)

    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0}

    @hookimpl(trylast=True)  # others may change the weights while they prepare
    def prepare(self, model: MultitaskModel) -> None:
        self.teacher = copy.deepcopy(model).float().requires_grad_(False).eval()

    @hookimpl
    def extra_losses(self, task: Task, batch: Batch, output: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        if not self.weight:
            return {}
        with torch.no_grad():
            target = predict(self.teacher.embed(batch), dropout="off", model=self.teacher)
        return {"bregman": self.weight * task.objective.divergence(output, target)}

    @property
    def cost(self) -> float:
        """Operations of a step, in those of a plain one: the teacher's pass is forward alone."""
        return 4 / 3 if self.weight else 1.0

    @hookimpl
    def after_step(self, model: MultitaskModel, step: int, total_steps: int) -> None:
        beta = self.early_beta if 10 * step < total_steps else self.beta
        move = get_ema_multi_avg_fn(beta)  # type: ignore[no-untyped-call]
        move(list(self.teacher.parameters()), [weight.detach().float() for weight in model.parameters()], step)

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.teacher.load_state_dict(state["teacher"])
