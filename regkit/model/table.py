"""Table: look up rows of an embedding, and keep the memory of its gradient between updates.

A batch reads 500 of 30,000 rows, and the gradient has all of them. On a CPU, to ask the system for so much memory takes
ten times as long as to set what is there to 0.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regkit.base.memory import Memory, is_real
from regkit.model.plain import is_transformed


class Table(nn.Embedding):
    """An embedding as torch's, with the same results and gradients, bit for bit."""

    def __init__(self, rows: int, width: int, weight: Tensor | None = None) -> None:
        super().__init__(rows, width, _weight=weight)
        self.memory = Memory()  # of the gradient

    def forward(self, tokens: Tensor) -> Tensor:
        if self.weight.is_cpu and self.weight.requires_grad and torch.is_grad_enabled() and not is_transformed():
            found: Tensor = _LookUp.apply(self.weight, tokens, self.memory)  # type: ignore[no-untyped-call]
            return found
        return super().forward(tokens)


def forget_memory(model: nn.Module) -> None:
    """Give back the memory that tables keep.

    The next gradients are made in new memory, as the first ones were.
    """
    for module in model.modules():
        if isinstance(module, Table):
            module.memory.forget()


class _LookUp(torch.autograd.Function):
    """Rows of a table, whose gradient is written into memory that is kept."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, tokens: Tensor, memory: Memory) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.shape, ctx.memory = weight.shape, memory
        ctx.set_materialize_grads(False)
        return F.embedding(tokens, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None, None]:
        if gradient is None:
            return None, None, None
        (tokens,) = ctx.saved_tensors
        if not is_real(gradient):
            return torch.ops.aten.embedding_dense_backward(gradient, tokens, ctx.shape[0], -1, False), None, None
        whole = ctx.memory.empty(ctx.shape, gradient).zero_()
        return whole.index_add_(0, tokens.flatten(), gradient.flatten(0, -2)), None, None
