"""Early: make backward passes before that of the loop.

Each is for the gradient of a point and of the weights.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import Node


class EarlyLosses:
    """Losses at moved embeddings, of which gradients are kept and no graph."""

    def __init__(self, embeddings: Tensor) -> None:
        self.embeddings = embeddings  # [tokens, width]: the clean ones, which each point is a fixed move away from
        self.losses: list[Tensor] = []
        self.gradients: dict[Tensor, Tensor] = {}  # of the sum of the losses, by what they are for

    def add(self, moved: Tensor, loss: Tensor) -> Tensor:
        """Add the loss at a point. Returns its gradient there, `[tokens, width]`."""
        weights = [leaf for leaf in leaves(loss) if leaf is not moved]
        # The graph is kept for what other passes share with this one, such as a weight that a plugin computed once.
        found = torch.autograd.grad(loss, [moved, *weights], retain_graph=True, allow_unused=True)
        for part, gradient in zip([self.embeddings, *weights], found, strict=True):
            if gradient is not None:  # added, but not in place: autograd may give one tensor for two weights
                self.gradients[part] = self.gradients[part] + gradient if part in self.gradients else gradient
        self.losses.append(loss.detach())
        return found[0]

    def total(self) -> Tensor:
        """Sum the losses: a scalar, whose backward pass hands out the gradients that are known."""
        value = sum(self.losses, self.embeddings.new_zeros(()))
        summed: Tensor = _Known.apply(value, *self.gradients, *self.gradients.values())  # type: ignore[no-untyped-call]
        return summed


class _Known(torch.autograd.Function):
    """A scalar that comes with its gradients, which are given after the tensors that they are for."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *given: Tensor) -> Tensor:
        ctx.save_for_backward(*given[len(given) // 2 :])
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        found = [slope * gradient for gradient in ctx.saved_tensors]
        return (None, *found, *[None] * len(found))


def leaves(tensor: Tensor) -> list[Tensor]:
    """List the leaves of a tensor's graph that need a gradient, such as weights."""
    found: list[Tensor] = []
    seen: set[Node] = set()
    ahead = [tensor.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found += [node.variable] if hasattr(node, "variable") else []
        ahead += [each for each, _ in node.next_functions]
    return found


def skip_backward_where_cancelled(loss: Tensor) -> None:
    """Let a backward pass end at `loss`, a scalar, where the other terms cancel its gradient.

    torch would carry zeros through the whole graph. A pass that needs the graph for another term still goes through it.
    """
    if loss.grad_fn is not None:
        loss.grad_fn.register_prehook(lambda slopes: slopes if slopes[0].any() else (None,))  # note: waits for the GPU
