"""Mixout: set a random share of the weights to the pretrained ones each update (Lee et al., 2020).

Equation 4 of arXiv 1909.11299, W' = (mask W_pre + (1 - mask) W - p W_pre) / (1 - p): W_pre plus dropout of W - W_pre. It acts
on the weight of every linear layer and replaces the dropout modules; the weights of a new head mix with 0. By default each
weight is masked by itself, which the authors call mixconnect; `rows=true` masks whole input neurons, as their code does. An
update has one mask, so all its passes over all its micro-batches use the same weights. Evaluation uses W.
"""

import copy
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regkit import Dropout, MultitaskModel, Streams, Task, Tuned, dropout, hookimpl

Tasks = Sequence[Task]


class MixedLinear(nn.Linear):
    """A linear layer that shares the parameters of another and mixes them in training mode."""

    anchor: Tensor  # [out, in]

    def __init__(self, layer: nn.Linear, anchor: Tensor, name: str, mixout: "Mixout") -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("anchor", anchor, persistent=False)
        self.name, self.mixout = name, mixout

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Linear:
        """Copy as a plain layer, because a copy of the model, such as a teacher, must not be mixed."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        plain.weight, plain.bias = copy.deepcopy((self.weight, self.bias), memo)
        return plain

    def forward(self, values: Tensor) -> Tensor:
        return F.linear(values, self.mixed() if self.training else self.weight, self.bias)

    def mixed(self) -> Tensor:
        """Compute this update's mixed weight, `[out, in]`."""
        moved = self.weight - self.anchor
        with Streams(self.mixout.draw, self.weight.device).seeded(self.name):
            if self.mixout.rows:
                return self.anchor + moved * dropout(torch.ones_like(self.anchor[0]), self.mixout.p)
            return self.anchor + dropout(moved, self.mixout.p)


def _is_alone(module: nn.Module) -> bool:
    """Whether this is a linear layer of a weight and a bias: one that a plugin has put in may hold more."""
    names = {name for name, _ in module.named_parameters()}
    return isinstance(module, nn.Linear) and names <= {"weight", "bias"}


@dataclass
class Mixout:
    p: Annotated[float, Field(ge=0, lt=1), Tuned(0, 0.9)] = 0.3
    """Share of the weights that are replaced by the pretrained ones."""
    rows: Annotated[bool, Tuned()] = False
    """Draw one row of the mask for all outputs: whole input neurons are replaced, not single weights."""
    layers: dict[str, MixedLinear] = field(init=False, repr=False, default_factory=dict)
    draw: int = field(init=False, repr=False, default=0)  # seed of this update's masks

    kind: ClassVar[str] = "regularizers"
    neutral: ClassVar[Mapping[str, float]] = {"p": 0.0}

    @hookimpl(trylast=True)  # others may change the weights while they prepare
    def prepare(self, model: MultitaskModel) -> None:
        if not self.p:
            return
        found = {name: module for name, module in model.named_modules() if _is_alone(module)}
        for name, layer in found.items():
            weight = layer.weight.detach()
            anchor = torch.zeros_like(weight) if name.startswith("heads.") else weight.clone()
            self.layers[name] = MixedLinear(layer, anchor, name, self)
            model.set_submodule(name, self.layers[name])
        for module in model.modules():
            if isinstance(module, Dropout):
                module.rate = 0.0
            if isinstance(module, nn.Dropout):  # of an encoder that is not regkit's
                module.p = 0.0

    @hookimpl(wrapper=True)
    def choose_tasks(self) -> Generator[None, Tasks, Tasks]:
        self.draw = int(torch.randint(2**62, ()))
        return (yield)

    def state_dict(self) -> dict[str, Any]:
        return {name: layer.anchor for name, layer in self.layers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, anchor in state.items():
            self.layers[name].anchor = anchor.to(self.layers[name].anchor.device)
