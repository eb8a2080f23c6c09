"""Arithmetic: choose the coarsest number format that still measures a small perturbation.

The difference of two passes loses the digits that both have in common, so the smaller a perturbation is, the more digits
its passes need. `docs/precision.md` has the errors by format and radius, which `python -m tests.benchmarks.ladder` prints.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from regkit.model import tf32
from regkit.model.modes import autocast

Arithmetic = Literal["bf16", "TF32", "fp32"]


class Rung(NamedTuple):
    radius: float  # the smallest, in units of the RMS of word embeddings, at which term and gradient were within 5 %
    arithmetic: Arithmetic


CUDA = (Rung(0.1, "bf16"), Rung(0.003, "TF32"))  # and below them fp32
ELSEWHERE = (Rung(0.03, "bf16"),)  # TF32 is CUDA's alone
FINENESS: Sequence[Arithmetic] = ("bf16", "TF32", "fp32")  # from the fewest digits to the most
PRODUCTS = ("MmBackward", "mmBackward", "Attention")  # in the names of the nodes of a backward pass


def arithmetic_of(radius: float | None, precision: torch.dtype, device: torch.device) -> Arithmetic:
    """Choose how to compute a pass with a perturbation of this radius, in a run of this precision.

    A pass without a radius, None, has no perturbation.
    """
    if precision != torch.bfloat16:
        return "fp32"
    if radius is None:
        return "bf16"
    ladder = CUDA if device.type == "cuda" else ELSEWHERE
    return next((rung.arithmetic for rung in ladder if radius >= rung.radius), "fp32")


def finest(kinds: Iterable[Arithmetic]) -> Arithmetic:
    """Choose the one of most digits."""
    return max(kinds, key=FINENESS.index)


@dataclass(frozen=True)
class Multiplier:
    """Runs passes in a number format.

    It turns torch's switch of TF32 on for the products of such a pass alone. The switch is the whole process's. It goes
    back to where it was when the run began, also after a product that failed.
    """

    usual: object = field(default_factory=tf32.switch)

    @contextmanager
    def computing(self, arithmetic: Arithmetic, device: torch.device) -> Iterator[None]:
        """Compute forward passes in a number format."""
        if arithmetic == "TF32":
            self._on()
        try:
            with autocast(device, torch.bfloat16 if arithmetic == "bf16" else torch.float32):
                yield
        finally:
            self._off()

    def backward_too(self, arithmetic: Arithmetic, output: Tensor, embeddings: Tensor) -> None:
        """Let the backward pass from `output` to `embeddings` be in TF32 if the forward pass was.

        They are, whenever that pass is made.
        """
        if arithmetic != "TF32":
            return
        seen, ahead = {embeddings.grad_fn}, [output.grad_fn]
        while ahead:
            node = ahead.pop()
            if node is None or not node.next_functions or node in seen:  # a weight has no product behind it
                continue
            seen.add(node)
            ahead += [each for each, _ in node.next_functions]
            kind = node.name()
            if any(name in kind for name in PRODUCTS):
                node.register_prehook(self._on)
                node.register_hook(self._off)

    def _on(self, *_: Any) -> None:
        tf32.put(tf32.ON)

    def _off(self, *_: Any) -> None:
        tf32.put(self.usual)
