"""Varlen: attend within packed sequences by a kernel that knows where each ends.

So nothing is padded.
"""

from typing import Any

import torch
from torch import Tensor

from regkit.model import tf32
from regkit.model.kernels import KERNELS, Form, Spans
from regkit.tasks.batch import Batch

TOP, LEAST = 64.0, 1e-30  # of a gradient in fp16, whose own largest number is 65504; below, a gradient is taken for 0


def attend_varlen(query: Tensor, key: Tensor, value: Tensor, batch: Batch, form: Form) -> Tensor:
    """Attend within each sequence of a batch, to `[queries, heads, width]`.

    Keys and values are `[tokens, heads, width]`. Queries are those of all tokens, or one a sequence, which sees all keys of
    its sequence.
    """
    attended: Tensor = _Varlen.apply(query, key, value, batch, form)  # type: ignore[no-untyped-call]
    return attended


class _Varlen(torch.autograd.Function):
    """Attention by the kernel for the type of the numbers."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, batch: Batch, form: Form) -> Any:
        ctx.type = type_of(query.dtype)
        ctx.kernel, ctx.batch, ctx.form = KERNELS[ctx.type], batch, form
        ctx.set_materialize_grads(False)  # where a loss is cancelled, nothing is computed
        given = [each.to(ctx.type) for each in (query, key, value)]
        kept = ctx.kernel.forward(*given, _spans(query, batch), form)
        ctx.save_for_backward(query, key, value, *kept)
        return kept[0].to(query.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * 5
        if torch.is_grad_enabled() and not ctx.form.rate:  # the gradient is to have a gradient
            return (*_differentiable(ctx, gradient), None, None)
        inputs, kept = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        spans, given = _spans(inputs[0], ctx.batch), [each.to(ctx.type) for each in inputs]
        if ctx.type == gradient.dtype:
            return (*ctx.kernel.backward(gradient.contiguous(), given, kept, spans, ctx.form), None, None)
        factor = lifting(gradient)
        found = ctx.kernel.backward((gradient * factor).to(ctx.type), given, kept, spans, ctx.form)
        return (*(each.to(gradient.dtype) / factor for each in found), None, None)


def type_of(dtype: torch.dtype) -> torch.dtype:
    """Choose a kernel's number format: fp16 where products are in TF32, as it has as many digits."""
    return torch.float16 if dtype == torch.float32 and tf32.is_on() else dtype


def lifting(gradient: Tensor) -> Tensor:
    """Compute the power of two that lifts the largest number to `TOP`: fp16 has no small ones."""
    return torch.exp2(torch.floor(torch.log2(TOP / gradient.abs().amax().clamp(min=LEAST))))


def _spans(query: Tensor, batch: Batch) -> Spans:
    if len(query) == len(batch.tokens):
        return Spans(batch.bounds, batch.bounds, batch.longest, batch.longest)
    each = torch.arange(len(batch.lengths) + 1, dtype=torch.int32, device=query.device)
    return Spans(each, batch.bounds, 1, batch.longest)


def attend_plainly(
    query: Tensor, key: Tensor, value: Tensor, batch: Batch, form: Form, kept: Tensor | None = None
) -> Tensor:
    """Compute what `attend_varlen` does by plain operations, one sequence after the other.

    `kept` says what dropout keeps, `[queries, heads, longest]`; without it nothing is dropped.
    """
    queries = list(batch.lengths) if len(query) == len(batch.tokens) else [1] * len(batch.lengths)
    scale = query.shape[-1] ** -0.5 if form.scale is None else form.scale
    shares = torch.ones_like(query[:, :, :1]).expand(-1, -1, batch.longest) if kept is None else kept / (1 - form.rate)
    ones, shares_of = (torch.split(each, queries) for each in (query, shares))
    others = (torch.split(each, list(batch.lengths)) for each in (key, value))
    parts = []
    for one, share, keys, values in zip(ones, shares_of, *others, strict=True):
        scores = torch.einsum("qhw,khw->qhk", one, keys) * scale
        if form.window is not None:
            places = torch.arange(len(keys), device=query.device)
            scores = scores.masked_fill(((places[:, None] - places).abs() >= form.window)[:, None], -torch.inf)
        weights = scores.softmax(-1) * share[..., : len(keys)]
        parts.append(torch.einsum("qhk,khw->qhw", weights, values))
    return torch.cat(parts)


def _differentiable(ctx: Any, gradient: Tensor) -> list[Tensor | None]:
    """Compute the gradient by operations that torch can differentiate."""
    inputs = query, key, value = [each.view_as(each) for each in ctx.saved_tensors[:3]]
    attended = attend_plainly(query, key, value, ctx.batch, ctx.form)
    needed = [each for each in inputs if each.requires_grad]
    found = iter(torch.autograd.grad(attended, needed, gradient, create_graph=True))
    return [next(found) if each.requires_grad else None for each in inputs]
