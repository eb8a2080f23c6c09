"""Memory: what to do where it runs out - the same again, in smaller micro-batches."""

import gc
from collections.abc import Iterable, Sequence
from types import TracebackType

import numpy as np
import torch

from regkit.base.errors import RunError
from regkit.data.order import size


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
