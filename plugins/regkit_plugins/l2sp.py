"""L2-SP: keep weights near the pretrained ones, and those of new heads near 0 (Li et al., 2018).

Equation 4 of arXiv 1802.01483: weight / 2 times the squared distance of the encoder's weights from their initial values,
plus weight head / 2 times the squared norm of the head's weights. The term is part of the loss, unlike AdamW's decoupled
weight decay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from regkit import MultitaskModel, NonNegative, Task, Tuned, hookimpl


@dataclass
class L2SP:
    weight: Annotated[NonNegative, Tuned(0.001, 1, log=True)] = 0.01
    """Strength of the pull towards the pretrained weights (alpha)."""
    head: NonNegative = 1.0
    """Strength of the pull of a new head's weights towards 0, in units of `weight` (beta / alpha)."""
    anchors: dict[str, Tensor] = field(init=False, repr=False, default_factory=dict)

    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0}

    @hookimpl(trylast=True)  # others may change the weights while they prepare
    def prepare(self, model: MultitaskModel) -> None:
        encoder = {name: each for name, each in model.named_parameters() if name.startswith("encoder.")}
        self.anchors = {name: each.detach().clone() for name, each in encoder.items() if each.requires_grad}

    @hookimpl
    def extra_losses(self, model: MultitaskModel, task: Task) -> Mapping[str, Tensor]:
        if not self.weight:
            return {}
        now = dict(model.named_parameters())
        moved = [(now[name] - anchor).square().sum() for name, anchor in self.anchors.items()]
        heads = [parameter.square().sum() for parameter in model.heads[task.name].parameters() if parameter.dim() > 1]
        terms = {"l2sp": (self.weight, moved), "l2sp head": (self.weight * self.head, heads)}
        return {name: strength / 2 * torch.stack(parts).sum() for name, (strength, parts) in terms.items() if parts}

    def state_dict(self) -> dict[str, Any]:
        return {"anchors": self.anchors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.anchors = {name: anchor.to(self.anchors[name].device) for name, anchor in state["anchors"].items()}
