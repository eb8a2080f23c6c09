"""Looks: test a mean while values come in, and pay for every look (Jennison & Turnbull, 2000).

Chapters 4 and 9 of *Group Sequential Methods*.

The values are paired differences, one a seed, normal with unknown variance. Their t statistics at all looks have a joint
distribution without any unknown, so what to ask of each look is simulated once.
"""

from functools import cache
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

DRAWS = 100_000
PART = 5_000  # draws at a time
SEED = 0

Floats = NDArray[np.float64]


@cache
def boundaries(most: int, level: float) -> Floats:
    """Compute how many standard errors from 0 a mean is told, after each number of values, `[most + 1]`.

    Looks are taken after 2, 3, ... `most` values. If the true mean is 0, the boundary is crossed at any of them with a
    probability of `level`. A look has a level in proportion to its values: where there are few, the same buys least.
    """
    found = np.full(most + 1, inf)
    if most < 2:
        return found
    looks = np.arange(2, most + 1)
    found[2:] = stdtrit(looks - 1, 1 - _share(most, level) * looks / 2)
    return found


def _share(most: int, level: float) -> float:
    """Find what of its level each value brings to a look."""
    rank = int(level * (DRAWS + 1))  # with which the level is kept on average over simulations
    if rank == 0:
        return level / sum(range(2, most + 1))
    return float(np.partition(_least(most), rank - 1)[rank - 1])


@cache
def _least(most: int) -> Floats:
    """Simulate values whose mean is 0: the least p at any look over the number of values, `[draws]`."""
    random, count = np.random.default_rng(SEED), np.arange(1, most + 1)
    found = []
    for _ in range(DRAWS // PART):
        values = random.standard_normal((PART, most))
        mean = values.cumsum(axis=1) / count
        variance = (values**2).cumsum(axis=1)[:, 1:] / count[1:] - mean[:, 1:] ** 2
        t = mean[:, 1:] / np.sqrt(variance / count[:-1])
        found.append((2 * stdtr(count[:-1], -np.abs(t)) / count[1:]).min(axis=1))
    return np.concatenate(found)


def chance(mean: float, spread: float, values: int, boundary: float, total: int) -> float:
    """Compute how probable it is that the mean will be told above 0 after `total` values.

    `values` are the first of them. It is the predictive power under a flat prior (Jennison & Turnbull,
    2000, section 10.3): the mean of those to come is expected about the present one, by as much as both vary. The
    spread is taken to stay.
    """
    more = total - values
    reach = more / total * spread * sqrt(1 / values + 1 / more)
    return float(stdtr(values - 1, (mean - boundary * spread / sqrt(total)) / reach))
