"""Layer-wise rates: train lower layers with smaller learning rates (Howard and Ruder, ACL 2018).

Section 3.2 of arXiv 1801.06146, with the multiplicative decay used for BERT by Clark et al. (ELECTRA, ICLR 2020). Heads and
pooler keep the rate of the stage, the top layer gets `decay` times it, the next `decay` squared, and so on to the embeddings.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from regkit import MultitaskModel, PluginError, Tuned, hookimpl

Optimizer = torch.optim.Optimizer


@dataclass
class LayerwiseLR:
    decay: Annotated[float, Field(gt=0, le=1), Tuned(0.7, 1)] = 0.95
    """Learning rate of a layer divided by that of the layer above it."""

    neutral: ClassVar[Mapping[str, float]] = {"decay": 1.0}

    @hookimpl(wrapper=True)
    def make_optimizer(self, model: MultitaskModel) -> Generator[None, Optimizer, Optimizer]:
        optimizer = yield
        if self.decay < 1 and not list(model.shared_parameters()):
            raise PluginError(
                "'layerwise_lr' slows the layers of the encoder, but the encoder is frozen; "
                "leave it out, or what freezes the encoder."
            )
        depths = _depths(model)
        optimizer.param_groups[:] = [part for group in optimizer.param_groups for part in self._split(group, depths)]
        return optimizer

    def _split(self, group: dict[str, Any], depths: Mapping[int, int]) -> list[dict[str, Any]]:
        """Split a parameter group by depth, so that each depth has its learning rate."""
        parts: dict[int, list[torch.nn.Parameter]] = {}
        for parameter in group["params"]:
            parts.setdefault(depths.get(id(parameter), 0), []).append(parameter)
        return [
            group | {"params": part, "lr": group["lr"] * self.decay**depth} for depth, part in sorted(parts.items())
        ]


def _depths(model: MultitaskModel) -> dict[int, int]:
    """Compute the depth of each encoder parameter below the heads, by its id; other parameters have 0."""
    encoder = model.encoder
    depths = {id(parameter): len(encoder.layers) + 1 for parameter in encoder.parameters()}
    depths |= {id(parameter): 0 for parameter in encoder.pooler.parameters()}
    for above, layer in enumerate(reversed(encoder.layers), start=1):
        depths |= {id(parameter): above for parameter in layer.parameters()}
    return depths
