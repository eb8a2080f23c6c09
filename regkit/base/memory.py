"""Memory: use the memory of a large tensor again.

To ask the system for it takes longer than to fill it.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from torch import Tensor


class Memory:
    """Memory for one tensor at a time, which is used again once nobody holds the tensor any more."""

    def __init__(self) -> None:
        self.kept: Tensor | None = None
        self.lock = Lock()  # two backward passes may run at the same time, each in a thread of its own

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Make a tensor of this shape, not filled yet, in the memory that is kept if that fits and is free.

        Its type and device are those of `like`.
        """
        with self.lock:
            return self._empty(shape, like)

    def _empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        kept = self.kept
        if kept is None or (kept.shape, kept.dtype, kept.device) != (tuple(shape), like.dtype, like.device):
            kept = self.kept = like.new_empty(shape)
        elif _users(kept) > 1:  # the gradient of another micro-batch, or what a plugin has put aside
            return like.new_empty(shape)
        return kept.detach()  # another tensor in this memory, which autograd takes as `.grad` without a copy

    def forget(self) -> None:
        """Give the memory back, once nobody holds the tensor in it."""
        self.kept = None

    def __deepcopy__(self, memo: Any) -> "Memory":
        return Memory()  # a copy of a model, such as a teacher, has no gradient

    def __reduce__(self) -> tuple[type["Memory"], tuple[()]]:
        return Memory, ()


def is_real(tensor: Tensor) -> bool:
    """Whether a tensor is in memory.

    One that stands for several, in `torch.autograd.grad(is_grads_batched=True)`, is not.
    """
    try:
        tensor.untyped_storage()
    except NotImplementedError:
        return False
    return True


def _users(tensor: Tensor) -> int:
    """Count the tensors in this one's memory, itself included."""
    storage = tensor.untyped_storage()
    return int(torch._C._storage_Use_Count(storage._cdata)) - 1  # without the object here
