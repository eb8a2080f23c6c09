"""Sampling: turn shares into whole numbers of updates, in random order, for schedulers."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from regkit.base.randomness import derive


def apportion(shares: Sequence[float], total: int) -> tuple[int, ...]:
    """Divide `total` into whole numbers in proportion to the shares.

    Each is rounded down, and those with the largest remainders get one more, so that they add up to `total`.
    """
    parts = np.asarray(shares, dtype=np.float64) / np.max(shares)  # a sum of large shares might overflow
    exact = parts / parts.sum() * total
    counts = np.floor(exact).astype(int)
    remainders = np.argsort(counts - exact, kind="stable")
    counts[remainders[: total - counts.sum()]] += 1
    return tuple(counts.tolist())


def turn(counts: tuple[int, ...], step: int, seed: int) -> int:
    """Look up whose turn it is at this step: an index into `counts`.

    An epoch of `sum(counts)` steps has each index exactly as often as its count says, and an order of its own.
    """
    epoch, place = divmod(step, sum(counts))
    return shuffled(counts, seed, epoch)[place]


@lru_cache(maxsize=8)
def shuffled(counts: tuple[int, ...], seed: int, epoch: int) -> tuple[int, ...]:
    """Shuffle the numbers 0, 1, ..., each repeated as often as its count says."""
    numbers = np.repeat(np.arange(len(counts)), counts)
    return tuple(np.random.default_rng(derive(seed, "turns", epoch)).permutation(numbers).tolist())
