"""TF32: torch's switch for products of float32 with 10 bits of mantissa.

CUDA alone has them. The switch is the whole process's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

MATMUL: Any = torch.backends.cuda.matmul
# The second is the switch before torch 2.9.
SWITCH, ON = ("fp32_precision", "tf32") if hasattr(MATMUL, "fp32_precision") else ("allow_tf32", True)


def switch() -> object:
    """Read the switch."""
    return getattr(MATMUL, SWITCH)


def is_on() -> bool:
    """Whether products of float32 are in TF32."""
    return switch() == ON


def put(value: object) -> None:
    """Put the switch where `switch` said that it was, or `ON`."""
    setattr(MATMUL, SWITCH, value)


@contextmanager
def switched(value: object) -> Iterator[None]:
    """Put the switch elsewhere for the block."""
    before = switch()
    put(value)
    try:
        yield
    finally:
        put(before)
