"""EMA: evaluate and keep an exponential moving average of the weights (Polyak and Juditsky, 1992).

The average is updated after every step, heads included, in float32. At update t its decay is min(decay, (1 + t) / (10 + t)),
so that the initial weights do not dominate the average of a short run.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch.optim.swa_utils import get_ema_multi_avg_fn

from regkit import MultitaskModel, Tuned, hookimpl


@dataclass
class EMA:
    decay: Annotated[float, Field(ge=0, lt=1), Tuned(0.9, 0.999)] = 0.99
    """Decay after the warm-up: how much of the average is kept at an update."""
    average: MultitaskModel = field(init=False, repr=False)

    neutral: ClassVar[Mapping[str, float]] = {"decay": 0.0}

    @hookimpl(trylast=True)  # others may change the weights while they prepare
    def prepare(self, model: MultitaskModel) -> None:
        self.average = copy.deepcopy(model).float().requires_grad_(False)

    @hookimpl
    def after_step(self, model: MultitaskModel, step: int) -> None:
        keep = min(self.decay, (1 + step) / (10 + step))
        move = get_ema_multi_avg_fn(keep)  # type: ignore[no-untyped-call]
        move(list(self.average.parameters()), [weight.detach().float() for weight in model.parameters()], step)

    @hookimpl
    def model_to_evaluate(self) -> MultitaskModel:
        return self.average

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.average.load_state_dict(state["average"])
