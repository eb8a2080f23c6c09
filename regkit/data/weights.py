"""Weights: count an example's memory in tokens, with the squares of lengths that attention keeps."""

import numpy as np

from regkit.tasks.batch import Batch
from regkit.tasks.task import Dataset, Examples


def weigh(lengths: np.ndarray, square: float = 0.0) -> np.ndarray:
    """Count the memory of examples in tokens: from lengths, `[examples, sides]`, to `[examples]`.

    A sequence of n tokens counts as `n + square * n**2`, see `model.squares.square`. Attention pads both texts of a pair that
    are read apart to the longer one.
    """
    found: np.ndarray = lengths.sum(1, dtype=np.int32)
    if square:
        pairs = lengths.shape[1] * lengths.max(1).astype(np.float64) ** 2
        found += np.ceil(square * pairs).astype(np.int32)
    return found


def lengths_of(examples: Dataset) -> np.ndarray:
    """Look up the tokens of each sequence of a split: `[examples, sides]`.

    A dataset that is not `Examples` tells only those of whole examples; each counts as one sequence.
    """
    return examples.sequence_lengths() if isinstance(examples, Examples) else np.asarray(examples.lengths())[:, None]


def lengths_in(batch: Batch) -> np.ndarray:
    """Look up the tokens of each sequence of a batch: `[examples, sides]`."""
    return np.reshape(batch.lengths, (-1, batch.sides))
