"""Memory: what to do where it runs out - the same again, in smaller micro-batches."""

import gc
from collections.abc import Iterable, Sequence
from types import TracebackType

import numpy as np
import torch

from regkit.data.order import size
from regkit.errors import RunError

# What is said where the error is none of torch's own: by its allocator on the CPU, by Apple's, and by CUDA's libraries.
SAID = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


class SmallerError(Exception):
    """Memory ran out, and micro-batches are smaller from now on: the same has to be done again."""


class Retry:
    """A `with` block in a loop: SmallerError ends the block only, and what it held is freed before the next.

    The tensors of a broken-off step hang on the frames that its error keeps, so they go only when the error is gone.
    """

    failed = False

    def __enter__(self) -> None:
        if self.failed:
            gc.collect()  # frames that are in a cycle with their error
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.failed = isinstance(error, SmallerError)
        return self.failed


def ran_out(error: Exception) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in SAID)


def halved(micro_batches: Iterable[Sequence[int] | np.ndarray], when: str) -> int:
    """Half the size of the largest micro-batch that can be cut, from the lengths of the examples of each.

    RunError where none can: then there is one example in each.
    """
    parts = list(micro_batches)
    several = [size(lengths) for lengths in parts if len(lengths) > 1]
    if not several:
        raise RunError(
            f"memory ran out {when}, with one example at a time, the longest of {max(map(size, parts))} tokens; "
            "begin with a lower max_length, a smaller encoder, or without the plugins that need most."
        )
    return max(several) // 2


def where(error: BaseException) -> str:
    """The plugin's hook in which memory ran out, in words; nothing where it was none's."""
    notes = getattr(error, "__notes__", ())
    return f", in {notes[0]}" if notes else ""
