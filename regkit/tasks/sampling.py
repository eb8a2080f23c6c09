"""Sampling: whole numbers of updates from shares, and a random order of them, for the schedulers among plugins."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from regkit.base.randomness import derive


def apportion(shares: Sequence[float], total: int) -> tuple[int, ...]:
    """Whole numbers in proportion to the shares that add up to `total`: rounded down, the rest to the largest remainders."""
    parts = np.asarray(shares, dtype=np.float64) / np.max(shares)  # a sum of large shares might overflow
    exact = parts / parts.sum() * total
    counts = np.floor(exact).astype(int)
    remainders = np.argsort(counts - exact, kind="stable")
    counts[remainders[: total - counts.sum()]] += 1
    return tuple(counts.tolist())


def turn(counts: tuple[int, ...], step: int, seed: int) -> int:
    """Whose turn it is: an epoch of `sum(counts)` steps has each number as often as its count, in an order of its own."""
    epoch, place = divmod(step, sum(counts))
    return shuffled(counts, seed, epoch)[place]


@lru_cache(maxsize=8)
def shuffled(counts: tuple[int, ...], seed: int, epoch: int) -> tuple[int, ...]:
    """Numbers 0, 1, ..., each as often as its count says, in random order."""
    numbers = np.repeat(np.arange(len(counts)), counts)
    return tuple(np.random.default_rng(derive(seed, "turns", epoch)).permutation(numbers).tolist())
