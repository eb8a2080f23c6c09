"""Padding: put packed rows where padded ones stand, and keep nothing of them for the backward pass."""

from typing import Any

import torch
from torch import Tensor

from regkit.model.plain import is_transformed


def put_rows(packed: Tensor, slots: Tensor, count: int) -> Tensor:
    """Put packed rows into their slots among `count` rows, and zeros elsewhere.

    `packed` is `[rows, ...]`, and the indices `slots` are `[rows]`.
    """
    if packed.requires_grad and torch.is_grad_enabled() and not is_transformed():
        found: Tensor = _PutRows.apply(packed, slots, count)  # type: ignore[no-untyped-call]
        return found
    return packed.new_zeros(count, *packed.shape[1:]).index_copy(0, slots, packed)


class _PutRows(torch.autograd.Function):
    """Does `index_copy`, and keeps nothing until the backward pass.

    torch would keep the rows there, though it only asks for their shape.
    """

    @staticmethod
    def forward(ctx: Any, packed: Tensor, slots: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.set_materialize_grads(False)  # where a loss is cancelled, nothing is computed
        return packed.new_zeros(count, *packed.shape[1:]).index_copy_(0, slots, packed)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None, None]:
        if gradient is None:
            return None, None, None
        (slots,) = ctx.saved_tensors
        return gradient.index_select(0, slots), None, None
