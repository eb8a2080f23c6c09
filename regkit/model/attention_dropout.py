"""Attention dropout: attend with dropout on the CPU, and keep little for the backward pass.

Of each pair of tokens and head, torch would keep three floats: the attention weight, the mask of dropout, and their product.
Here the weight is kept, and the mask as a byte. Results and gradients are the same, bit for bit.
"""

import math
from typing import Any

import torch
from torch import Tensor

from regkit.model.dropout import draw, mask
from regkit.model.plain import is_transformed


def attend_with_dropout(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, rate: float, scale: float | None
) -> Tensor:
    """Attend on the CPU with dropout on the attention weights; arguments and result are those of `attend`."""
    bias = None if visible is None else query.new_zeros(visible.shape).masked_fill_(~visible, -torch.inf)
    kept, factor = draw((*query.shape[:-1], key.shape[-2]), rate)
    if is_transformed():
        return (_weights(query, key, bias, scale) * mask(kept, factor, query.dtype)) @ value
    query, key, value = (each.contiguous() for each in (query, key, value))  # else every product copies what it reads
    attended: Tensor = _Attention.apply(query, key, value, bias, kept, factor, scale)  # type: ignore[no-untyped-call]
    return attended


def _weights(query: Tensor, key: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    scores = _scaled(query @ key.transpose(-1, -2), query, scale)
    return (scores if bias is None else scores.add_(bias)).softmax(-1)  # to add is faster than to fill


def _scaled(scores: Tensor, query: Tensor, scale: float | None) -> Tensor:
    """Scale scores, or their gradient, in place."""
    return scores.div_(math.sqrt(query.shape[-1])) if scale is None else scores.mul_(scale)


class _Attention(torch.autograd.Function):
    """Attention with dropout, whose backward pass multiplies weights and mask again."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(ctx: Any, *given: Any) -> Tensor:
        query, key, value, bias, kept, ctx.factor, ctx.scale = given
        ctx.set_materialize_grads(False)  # where a loss is cancelled, nothing is computed
        weights = _weights(query, key, bias, ctx.scale)
        ctx.save_for_backward(query, key, value, bias, kept, weights)
        attended: Tensor = mask(kept, ctx.factor, weights.dtype).mul_(weights) @ value
        return attended

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * 7
        query, key, value, _, kept, weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to have a gradient
            return (*_differentiable(ctx, gradient), *[None] * 4)
        gradient = gradient.contiguous()  # two products read it
        left = mask(kept, ctx.factor, weights.dtype)
        slope = (gradient @ value.transpose(-1, -2)).mul_(left)
        by_value = left.mul_(weights).transpose(-1, -2) @ gradient
        del left
        slope = torch.ops.aten._softmax_backward_data(slope, weights, -1, slope.dtype)
        slope = _scaled(slope, query, ctx.scale)
        return (slope @ key, slope.transpose(-1, -2) @ query, by_value, *[None] * 4)


def _differentiable(ctx: Any, gradient: Tensor) -> list[Tensor | None]:
    """Compute the gradient by operations that torch can differentiate; the saved weights have no graph."""
    query, key, value, bias, kept, _ = ctx.saved_tensors
    inputs = query, key, value = [each.view_as(each) for each in (query, key, value)]
    weights = _weights(query, key, bias, ctx.scale)
    attended = (weights * mask(kept, ctx.factor, weights.dtype)) @ value
    needed = [each for each in inputs if each.requires_grad]
    found = iter(torch.autograd.grad(attended, needed, gradient, create_graph=True))
    return [next(found) if each.requires_grad else None for each in inputs]
