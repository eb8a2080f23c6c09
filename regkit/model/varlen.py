"""Varlen: attend within packed sequences by a GPU's kernel that knows where each of them ends, so that nothing is padded.

It is flash attention (Dao, 2023, arXiv 2307.08691). torch has it without dropout, in `torch.nn.attention.varlen`; this module
calls the kernel that stands behind that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regkit.tasks.batch import Batch


class Form(NamedTuple):
    """How attention is computed, beside its queries, keys and values."""

    rate: float = 0.0  # of dropout on the attention weights
    scale: float | None = None  # of the scores; None: one over the root of a head's width
    window: int | None = None  # a query sees the keys that are nearer than this; None: all of its sequence


def attend_varlen(query: Tensor, key: Tensor, value: Tensor, batch: Batch, form: Form) -> Tensor:
    """Attend within each sequence of a batch, to `[queries, heads, width]`.

    Keys and values are `[tokens, heads, width]`. Queries are those of all tokens, or one a sequence, which sees all keys of
    its sequence.
    """
    attended: Tensor = _Flash.apply(query, key, value, batch, form)  # type: ignore[no-untyped-call]
    return attended


class _Flash(torch.autograd.Function):
    """Flash attention with lengths and dropout, whose gradients are the same each time: resuming a run needs that."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, batch: Batch, form: Form) -> Any:
        ctx.batch, ctx.form = batch, form
        ctx.set_materialize_grads(False)  # where a loss is cancelled, nothing is computed
        found = torch.ops.aten._flash_attention_forward(
            query, key, value, *_spans(query, batch), form.rate, False, False, **_options(form)
        )
        attended, logsumexp, *drawn = found[:4]
        ctx.save_for_backward(query, key, value, attended, logsumexp, *drawn)
        return attended

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * 5
        if torch.is_grad_enabled() and not ctx.form.rate:  # the gradient is to have a gradient
            return (*_differentiable(ctx, gradient), None, None)
        query, key, value, attended, logsumexp, *drawn = ctx.saved_tensors
        given = (gradient, query, key, value, attended, logsumexp, *_spans(query, ctx.batch))
        with deterministic():
            found = torch.ops.aten._flash_attention_backward(*given, ctx.form.rate, False, *drawn, **_options(ctx.form))
        return (*found, None, None)


def _spans(query: Tensor, batch: Batch) -> tuple[Tensor, Tensor, int, int]:
    """Say where each sequence's queries and keys begin and end, and how many of them the longest has."""
    if len(query) == len(batch.tokens):
        return batch.bounds, batch.bounds, batch.longest, batch.longest
    each = torch.arange(len(batch.lengths) + 1, dtype=torch.int32, device=query.device)
    return each, batch.bounds, 1, batch.longest


def _options(form: Form) -> dict[str, Any]:
    reach = None if form.window is None else form.window - 1
    return {"scale": form.scale, "window_size_left": reach, "window_size_right": reach}


@contextmanager
def deterministic() -> Iterator[None]:
    """Let torch take algorithms that give the same bits each time; faster ones add in the order of chance."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")  # where torch may only warn, this kernel stays as it is
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


def attend_plainly(
    query: Tensor, key: Tensor, value: Tensor, batch: Batch, form: Form, kept: Tensor | None = None
) -> Tensor:
    """Compute what `attend_varlen` does by plain operations, one sequence after the other.

    `kept` says what dropout keeps, `[queries, heads, longest]`; without it nothing is dropped.
    """
    queries = list(batch.lengths) if len(query) == len(batch.tokens) else [1] * len(batch.lengths)
    scale = query.shape[-1] ** -0.5 if form.scale is None else form.scale
    shares = torch.ones_like(query[:, :, :1]).expand(-1, -1, batch.longest) if kept is None else kept / (1 - form.rate)
    given = (
        *(torch.split(each, queries) for each in (query, shares)),
        *(torch.split(each, list(batch.lengths)) for each in (key, value)),
    )
    parts = []
    for one, share, keys, values in zip(*given, strict=True):
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
