"""Kernels: call the attention kernels of GPUs that know where packed sequences end.

Flash attention (Dao, 2023, arXiv 2307.08691) computes in half precision, memory-efficient attention (Rabe and Staats, 2021,
arXiv 2112.05682) in float32. torch has the first without dropout in `torch.nn.attention.varlen`, and both in nested tensors;
these are the operations behind those. Gradients are the same bits each time, as resuming a run needs them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Form(NamedTuple):
    """How attention is computed, beside its queries, keys and values."""

    rate: float = 0.0  # of dropout on the attention weights
    scale: float | None = None  # of the scores; None: one over the root of a head's width
    window: int | None = None  # a query sees the keys that are nearer than this; None: all of its sequence


class Spans(NamedTuple):
    """Where sequences begin and end, among the queries and among the keys."""

    queries: Tensor  # [sequences + 1], in 32 bits
    keys: Tensor  # [sequences + 1]
    most_queries: int  # of a sequence
    most_keys: int


class Kernel(NamedTuple):
    """A way to attend from queries `[queries, heads, width]` to keys and values `[tokens, heads, width]`."""

    forward: Callable[[Tensor, Tensor, Tensor, Spans, Form], Sequence[Tensor]]  # the result, and what `backward` needs
    backward: Callable[..., Sequence[Tensor]]  # from a gradient, the inputs, what `forward` gave, spans and form
    windows: bool  # whether it knows them


def flash(query: Tensor, key: Tensor, value: Tensor, spans: Spans, form: Form) -> Sequence[Tensor]:
    """Attend by flash attention.

    Returns the result, the logarithms of sums, and two numbers for dropout's generator.
    """
    attend = torch.ops.aten._flash_attention_forward
    found: Sequence[Tensor] = attend(query, key, value, *spans, form.rate, False, False, **_flash_options(form))
    return found[:4]


def flash_backward(
    gradient: Tensor, inputs: Sequence[Tensor], kept: Sequence[Tensor], spans: Spans, form: Form
) -> Sequence[Tensor]:
    """Compute the gradients of queries, keys and values."""
    attended, logsumexp, *drawn = kept
    given = (gradient, *inputs, attended, logsumexp, *spans, form.rate, False, *drawn)
    with deterministic():
        found: Sequence[Tensor] = torch.ops.aten._flash_attention_backward(*given, **_flash_options(form))
    return found


def _flash_options(form: Form) -> dict[str, Any]:
    reach = None if form.window is None else form.window - 1
    return {"scale": form.scale, "window_size_left": reach, "window_size_right": reach}


def efficient(query: Tensor, key: Tensor, value: Tensor, spans: Spans, form: Form) -> Sequence[Tensor]:
    """Attend by memory-efficient attention, which takes a batch of one. Gives what `flash` does."""
    inputs = (each[None] for each in (query, key, value))
    attend = torch.ops.aten._efficient_attention_forward
    attended, *kept = attend(*inputs, None, *spans, form.rate, 0, True, scale=form.scale)
    return [attended[0], *kept[:3]]


def efficient_backward(
    gradient: Tensor, inputs: Sequence[Tensor], kept: Sequence[Tensor], spans: Spans, form: Form
) -> Sequence[Tensor]:
    """Compute the gradients of queries, keys and values."""
    attended, logsumexp, *drawn = kept
    given = (*(each[None] for each in (gradient, *inputs)), None, attended[None], *spans, logsumexp, form.rate, *drawn)
    options = {"scale": form.scale, "num_splits_key": 1}  # parts of the keys would be added in the order of chance
    found: Sequence[Tensor] = torch.ops.aten._efficient_attention_backward(*given, 0, False, **options)
    return [each[0] for each in found[:3]]


@contextmanager
def deterministic() -> Iterator[None]:
    """Let torch take algorithms that give the same bits each time; faster ones add in the order of chance."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")  # where torch may only warn, flash attention stays as it is
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


FLASH, EFFICIENT = Kernel(flash, flash_backward, windows=True), Kernel(efficient, efficient_backward, windows=False)
KERNELS = {torch.float16: FLASH, torch.bfloat16: FLASH, torch.float32: EFFICIENT}  # by the type of the numbers
