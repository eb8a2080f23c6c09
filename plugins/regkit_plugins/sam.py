"""SAM: step by the gradient found uphill of the present weights (Foret et al., ICLR 2021).

Algorithm 1 of arXiv 2010.01412, with the L2 norm: the weights move by rho along the whole gradient of the update. The
gradient is computed again there, with the same batches and dropout masks. Then the weights are restored, and the optimizer
steps with this second gradient.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from regkit import MultitaskModel, NonNegative, Tuned, hookimpl


@dataclass
class SAM:
    rho: Annotated[NonNegative, Tuned(0.01, 0.2, log=True)] = 0.02
    """L2 distance, over all trained weights, of the point where the second gradient is taken."""

    weights: dict[Tensor, Tensor] = field(init=False, repr=False, default_factory=dict)  # as they were, by parameter

    neutral: ClassVar[Mapping[str, float]] = {"rho": 0.0}

    @property
    def cost(self) -> float:
        """Operations of a step, in those of a plain one: its gradient is computed twice."""
        return 2.0 if self.rho else 1.0

    @hookimpl
    def before_step(self, model: MultitaskModel, recompute: Callable[[], None]) -> None:
        if not self.rho:
            return
        gradients = {each: each.grad for each in model.parameters() if each.grad is not None}
        step = self.rho / get_total_norm(gradients.values()).clamp(min=1e-12)
        with torch.no_grad():
            for parameter, gradient in gradients.items():
                self._keep(parameter)
                parameter.add_(gradient.mul_(step))
        before = {parameter: self.weights[parameter] for parameter in gradients}
        del gradients, gradient  # to free their memory for the second ones
        try:
            recompute()
        finally:
            with torch.no_grad():
                for parameter, value in before.items():
                    parameter.copy_(value)  # subtracting the step would leave rounding errors

    def _keep(self, parameter: Tensor) -> None:
        """Note a weight in memory that is used again: to ask for new memory takes longer than to fill it."""
        kept = self.weights.get(parameter)
        if kept is None or (kept.dtype, kept.device) != (parameter.dtype, parameter.device):
            kept = self.weights[parameter] = torch.empty_like(parameter, requires_grad=False)
        kept.copy_(parameter)
