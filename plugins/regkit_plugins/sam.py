"""SAM: step by the gradient found uphill of the present weights, towards flat minima (Foret et al., ICLR 2021).

Algorithm 1 of arXiv 2010.01412, with the L2 norm: the weights move by rho along the whole gradient of the update, the gradient is
made anew there from the same batches and dropout masks, and the optimizer steps with it from where the weights were.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from regkit import MultitaskModel, hookimpl


@dataclass
class SAM:
    rho: Annotated[float, Field(ge=0)] = 0.05
    """How far uphill the second gradient is taken: L2 distance, all trained weights together."""

    neutral: ClassVar[Mapping[str, float]] = {"rho": 0.0}

    @hookimpl
    def before_step(self, model: MultitaskModel, recompute: Callable[[], None]) -> None:
        if not self.rho:
            return
        trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
        before = [parameter.detach().clone() for parameter in trained]
        with torch.no_grad():
            gradients = [parameter.grad for parameter in trained]
            norm = torch.nn.utils.get_total_norm(gradients)
            for parameter, gradient in zip(trained, gradients, strict=True):
                parameter += gradient * (self.rho / norm.clamp(min=1e-12))
        recompute()
        with torch.no_grad():
            for parameter, value in zip(trained, before, strict=True):
                parameter.copy_(value)  # not subtracted: that would leave rounding behind
