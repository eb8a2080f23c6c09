"""LoRA: train a low-rank addition to some weight matrices, and leave the encoder as it is (Hu et al., ICLR 2022).

Section 4 of arXiv 2106.09685: a layer with weight W computes W x + (alpha / rank) B A x, where A has `rank` rows. A begins
normal, B at 0, so that training begins with the function of the encoder. A has the standard deviation of the authors' code.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from regkit import Count, Dropout, MultitaskModel, PluginError, Positive, Stage, Task, Tuned, hookimpl, nearest


class LowRankLinear(nn.Linear):
    """A linear layer that adds the product of two thin matrices to the weight of another.

    It shares the parameters of that layer.
    """

    def __init__(self, layer: nn.Linear, rank: int, scale: float, rate: float) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias, self.scale = layer.weight, layer.bias, scale
        self.a = nn.Parameter(torch.randn(rank, layer.in_features) / (3 * layer.in_features) ** 0.5)
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank))
        self.dropout = Dropout(rate)

    def forward(self, values: Tensor) -> Tensor:
        added = F.linear(F.linear(self.dropout(values), self.a), self.b)
        return F.linear(values, self.weight, self.bias) + self.scale * added

    def merged(self) -> nn.Linear:
        """Make the plain layer that computes the same without dropout."""
        plain = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        plain.weight, plain.bias = nn.Parameter(self.weight + self.scale * self.b @ self.a), self.bias
        return plain


@dataclass
class LoRA:
    rank: Annotated[Count, Tuned(2, 64, log=True)] = 8
    """Rows of A and columns of B (r)."""
    alpha: Annotated[Positive, Tuned(4, 64, log=True)] = 8.0
    """Scale of the addition, which is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1), Tuned(0, 0.3)] = 0.0
    """Dropout of what A is given."""
    matrices: list[str] = field(default_factory=lambda: ["query", "value"])
    """Last names of the linear layers of the encoder that get an addition."""

    @hookimpl
    def build(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        encoder: nn.Module = model.get_submodule("encoder")
        encoder.requires_grad_(False)
        layers = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
        for name in self.chosen(layers):
            added = LowRankLinear(layers[name], self.rank, self.alpha / self.rank, self.dropout)
            encoder.set_submodule(name, added)
        if any((task.pooling or model.pooling) == "pooler" for task in tasks):
            model.encoder.pooler.requires_grad_()  # as the heads, it is above the layers that were pretrained

    def chosen(self, layers: Iterable[str]) -> list[str]:
        """Choose the layers by the last part of their names. Raises PluginError for one that there is not."""
        known = {name.rpartition(".")[2] for name in layers}
        for name in self.matrices or [""]:
            if name not in known:
                raise PluginError(
                    f"'lora' finds no linear layer '{name}' in the encoder. {nearest(name, sorted(known))}"
                )
        return [name for name in layers if name.rpartition(".")[2] in self.matrices]

    @hookimpl
    def prepare(self, stage: Stage) -> None:
        if stage.trainable == "heads":
            raise PluginError(
                f"'lora' trains additions to the encoder, but the encoder is frozen in stage '{stage.name}'; leave one of "
                "the two out, or name by lora:stages those in which it is not."
            )
