"""Dropout: zero a random share of a tensor and scale the rest up, from cheap random bits on the CPU."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regkit.model.plain import is_transformed

LEVELS = 2**16  # rates are rounded to 1/65536, and the scale is that of the rounded rate, so the mean is exact


def dropout(values: Tensor, rate: float) -> Tensor:
    """Apply inverted dropout (Srivastava et al., 2014), with torch's default generator.

    On the CPU torch's own dropout draws one Bernoulli number for each element, 7-10 ns each; here 64 random bits serve
    four elements.
    """
    if values.device.type != "cpu":
        return F.dropout(values, rate)
    kept, factor = draw(values.shape, rate)
    if is_transformed():
        return values * mask(kept, factor, values.dtype)
    found: Tensor = _Dropped.apply(values, kept, factor)  # type: ignore[no-untyped-call]
    return found


def draw(shape: Sequence[int], rate: float) -> tuple[Tensor, float]:
    """Draw on the CPU what dropout keeps, as bytes 0 or 1 of this shape, and the factor that scales it up."""
    dropped = min(round(rate * LEVELS), LEVELS - 1)
    count = math.prod(shape)
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    numbers = bits.view(torch.int16)[:count].view(shape)
    keep = numbers.ge_(dropped - LEVELS // 2)  # 0 or 1 in place: a tenth of the time that `>=` takes to make booleans
    return keep.to(torch.uint8), LEVELS / (LEVELS - dropped)


def mask(kept: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """Make the mask that dropout multiplies by: floats are the fastest to apply, and bytes to convert."""
    return kept.to(dtype).mul_(factor)


class _Dropped(torch.autograd.Function):
    """Values times a mask, of which bytes are kept for the backward pass, and not floats."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, kept: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.factor = factor
        ctx.set_materialize_grads(False)  # where a loss is cancelled, nothing is computed
        return mask(kept, factor, values.dtype).mul_(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None, None]:
        if gradient is None:
            return None, None, None
        (kept,) = ctx.saved_tensors
        return gradient * mask(kept, ctx.factor, gradient.dtype), None, None


class Dropout(nn.Module):
    """Dropout: applies `dropout` in training mode, and does nothing in evaluation mode."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        return dropout(values, self.rate) if self.training and self.rate else values

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
