"""Function: put passes that are repeated into torch's graph of gradients.

Their weights are joined: all of their gradients come from a pass as one tensor, those of several passes are summed as one,
and only then they are cut into those of each weight.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regkit.base.memory import is_real
from regkit.base.randomness import set_states, states_of, unchanged
from regkit.model.repeat.sizes import Rounded
from regkit.model.repeat.work import Begun, Work, gradients

Begin = Callable[[Work, Tensor, Rounded], Begun]

CHANGED = "a weight of the encoder was modified by an inplace operation between a pass and its gradient"


def join(weights: Sequence[nn.Parameter]) -> Tensor:
    """Make what stands for weights in `run`: nothing but a place for their gradients, end to end."""
    joined: Tensor = _Joined.apply(*weights)  # type: ignore[no-untyped-call]
    return joined


def run(work: Work, embeddings: Tensor, given: Rounded, joined: Tensor | None, begin: Begin) -> Tensor:
    """Compute a pass by what `begin` gives, from `[tokens, width]` to the hidden states."""
    found: Tensor = _Run.apply(embeddings, joined, work, given, begin)  # type: ignore[no-untyped-call]
    return found


class _Joined(torch.autograd.Function):
    """A tensor in whose place the gradients of weights come in.

    It keeps nothing, so it serves any number of times.
    """

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> Tensor:
        ctx.shapes = [weight.shape for weight in weights]
        return weights[0].new_zeros(1).expand(sum(map(torch.numel, weights)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        parts = torch.split(gradient, [shape.numel() for shape in ctx.shapes])
        shaped = zip(parts, ctx.shapes, strict=True)
        return tuple(part if len(shape) == 1 else part.view(shape) for part, shape in shaped)


class _Run(torch.autograd.Function):
    """A pass, and what goes back through it."""

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, joined: Tensor | None, work: Work, given: Rounded, begin: Begin
    ) -> Tensor:
        ctx.set_materialize_grads(False)  # where a loss is cancelled, nothing is computed
        ctx.states, ctx.versions = states_of(embeddings.device), versions(work)
        ctx.joined, ctx.work, ctx.given = joined, work, given
        ctx.save_for_backward(embeddings)
        ctx.kept = begin(work, embeddings, given)
        output: Tensor = ctx.kept.forward()
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * 5
        if versions(ctx.work) != ctx.versions:
            raise RuntimeError(CHANGED)
        whole = ctx.joined is not None and torch._C._will_engine_execute_node(ctx.joined.grad_fn)
        if ctx.kept is None or torch.is_grad_enabled() or not is_real(gradient):
            return (*_once_more(ctx, gradient, whole), None, None, None)
        found = ctx.kept.backward(gradient, whole)
        if whole:
            ctx.kept = None  # what the pass has kept is used up
        return (*found, None, None, None)


def _once_more(ctx: Any, gradient: Tensor, whole: bool) -> tuple[Tensor | None, Tensor | None]:
    """Compute a pass once more.

    It is for the gradient of a gradient, for several gradients at once, and where torch was told to keep what is used up.
    """
    again = torch.is_grad_enabled()
    (embeddings,) = ctx.saved_tensors
    embeddings = embeddings if again else embeddings.detach().requires_grad_(ctx.work.manner.moved)
    with unchanged(embeddings.device), ctx.work.again(embeddings.device):
        set_states(embeddings.device, ctx.states)
        output = ctx.work.compute(embeddings, ctx.given)
    moved, rest = gradients(ctx.work, output, embeddings, gradient, whole, keep=False, again=again)
    return moved, torch.cat(rest) if rest else None


def versions(work: Work) -> int:
    """Count how often the weights were changed in place."""
    return sum(weight._version for weight in work.weights)
