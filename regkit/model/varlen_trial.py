"""Varlen's trial: use a kernel that knows lengths only where it was seen to be right.

It is tried once in a process. Values, gradients and dropout are compared with plain operations on four short sequences. A
kernel that fails, differs or gives other bits the second time is not used: attention then pads.
"""

import logging
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

from regkit.base.failures import in_one_line, ran_out
from regkit.base.randomness import unchanged
from regkit.model.kernels import KERNELS, Form
from regkit.model.varlen import attend_plainly, attend_varlen, type_of
from regkit.tasks.batch import Batch

WIDEST = 256  # numbers of a head, in half precision
LENGTHS, HEADS = (3, 1, 150, 20), 4  # of the trial: kernels work in blocks of 32 to 128
CLOSE = {torch.float16: 0.02, torch.bfloat16: 0.02, torch.float32: 2e-3}  # of the norm, as bf16 and TF32 round
NEAR = 0.1  # how far the share of keys that count, after dropout, may be from what it should be

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def runs_varlen(query: Tensor, key: Tensor, value: Tensor, form: Form) -> bool:
    """Whether a kernel that knows lengths computes this here.

    A kind of attention is tried when it is first asked for.
    """
    dtype, width, single = type_of(query.dtype), query.shape[-1], len(query) != len(key)
    kernel = KERNELS.get(dtype)
    alike = query.dtype == key.dtype == value.dtype and query.shape[1:] == key.shape[1:] == value.shape[1:]
    if not (query.is_cuda and kernel and alike and width % 8 == 0 and width <= WIDEST):
        return False
    if form.window is not None and (single or not kernel.windows):  # a single query would be taken for the last token
        return False
    return works(query.device, dtype, width, form.rate > 0, form.window is not None)


@lru_cache
def works(device: torch.device, dtype: torch.dtype, width: int, drops: bool, windowed: bool) -> bool:
    """Try the kernel, and say in a line what is wrong with it. The run's random numbers stay as they are."""
    form = Form(0.5 if drops else 0.0, 0.2, 3 if windowed else None)
    with (
        unchanged(device),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        try:
            wrong = _wrong(device, dtype, width, form, single=False)
            wrong = wrong or ("" if windowed else _wrong(device, dtype, width, form, single=True))
        except Exception as error:  # this card, or this torch, has no such kernel
            if ran_out(error):
                raise
            wrong = f"fails: {in_one_line(error)}"
    if wrong:
        kind = f"{str(dtype).removeprefix('torch.')}, heads of {width}{', dropout' * drops}{', windows' * windowed}"
        logging.getLogger(__name__).warning("attention pads, which takes longer: its kernel (%s) %s", kind, wrong)
    return not wrong


def _wrong(device: torch.device, dtype: torch.dtype, width: int, form: Form, single: bool) -> str:
    """Say what is wrong with the kernel; nothing if all is right."""
    batch, queries = _batch(device), len(LENGTHS) if single else sum(LENGTHS)
    torch.manual_seed(0)
    query, key, value, goal = (
        torch.randn(size, HEADS, width, device=device).to(dtype)
        for size in (queries, sum(LENGTHS), sum(LENGTHS), queries)
    )

    def kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        torch.manual_seed(1)  # what dropout keeps is the same each time
        return attend_varlen(query, key, value, batch, form)

    def plain(query: Tensor, key: Tensor, value: Tensor, kept: Tensor | None = None) -> Tensor:
        return attend_plainly(query, key, value, batch, form, kept)

    kept, seen = _seen(kernel, query, key, batch), _seen(plain, query.double(), key.double(), batch)
    if not abs(float(kept.sum() / seen.sum()) - (1 - form.rate)) < NEAR:
        return "counts other keys than it should"
    ours, again = (_with_gradients(kernel, [query, key, value], goal) for _ in "ab")
    wide = [each.double() for each in (query, key, value)]
    theirs = _with_gradients(partial(plain, kept=kept), wide, goal.double())
    if not all((one - other).norm() <= CLOSE[dtype] * other.norm() for one, other in zip(ours, theirs, strict=True)):
        return "has other results than plain operations"
    return "" if all(map(torch.equal, ours, again)) else "has other results each time"


def _batch(device: torch.device) -> Batch:
    tokens = [torch.zeros(length, dtype=torch.int64).numpy() for length in LENGTHS]
    return Batch.pack(tokens, tokens).to(device)


def _seen(attend: Attend, query: Tensor, key: Tensor, batch: Batch) -> Tensor:
    """Find which keys count for each query, `[queries, heads, longest]`.

    Values that are rows of 1 show the weights.
    """
    width = key.shape[-1]
    weights = []
    for first in range(0, batch.longest, width):
        rows = batch.positions[:, None] == torch.arange(first, first + width, device=key.device)
        weights.append(attend(query, key, rows[:, None].expand_as(key).to(key.dtype).contiguous()))
    return torch.cat(weights, dim=-1)[..., : batch.longest] != 0


def _with_gradients(attend: Attend, given: list[Tensor], goal: Tensor) -> list[Tensor]:
    """Compute the output, and the gradients of queries, keys and values."""
    inputs = [each.detach().requires_grad_() for each in given]
    output = attend(*inputs)
    return [output, *torch.autograd.grad(output, inputs, goal)]
