"""Paired: test the differences between paired runs.

Their intervals, and how many seeds would tell more, are here too. Every function takes arrays and knows no runs. A
difference is the score of a row minus that of the baseline for the same seed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import nctdtr, stdtr, stdtrit

LEVEL = 0.95  # share of intervals that hold the true difference
POWER = 0.8  # share of true differences that so many seeds would tell
EXACT = 20  # pairs whose flips are all tried: half a million
DRAWN = 100_000  # flips that are drawn for more pairs, in parts that need little memory
PART = 1000
MOST_SEEDS = 1000  # that a table advises; a difference that needs more cannot be told in practice
ROUNDING = 1e-9  # of the sum of sizes, below which two sums of differences are the same

Floats = NDArray[np.float64]


def sign_flip(differences: ArrayLike) -> float:
    """Compute the exact two-sided p of the sign-flip test (Fisher, 1935, section 21).

    `differences` is `[pairs]`. If the row does nothing, a difference is as probable with the other sign. So p is the share
    of all flips of signs whose mean is as far from 0 as the one seen. Above 20 pairs, 100,000 flips are drawn, and the one
    seen counts among them (Phipson & Smyth, 2010), so p is never 0. No pairs, or differences of 0 alone, give 1; one that is
    not finite gives NaN.
    """
    seen = _flat(differences)
    if not np.isfinite(seen).all():
        return nan
    sums = _all_sums(seen) if len(seen) <= EXACT else _drawn_sums(seen)
    return float(np.mean(np.abs(sums) >= abs(seen.sum()) - ROUNDING * np.abs(seen).sum()))


def _all_sums(values: Floats) -> Floats:
    """Sum the values under every flip but those that mirror another, `[2^(pairs - 1)]`."""
    sums: Floats = values[:1].sum(keepdims=True)
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _drawn_sums(values: Floats) -> Floats:
    """Sum the values under flips drawn with a fixed seed, and as they are: `[flips + 1]`."""
    random = np.random.default_rng(0)
    drawn = [random.choice([-1.0, 1.0], (PART, len(values))) @ values for _ in range(DRAWN // PART)]
    return np.concatenate([values.sum(keepdims=True), *drawn])


def smallest_p(pairs: int) -> float:
    """Compute the least p that the sign-flip test can give.

    Two of 2^pairs flips are at least as extreme; for five pairs that is 1/16.
    """
    return 2.0 ** (1 - max(pairs, 1)) if pairs <= EXACT else 1 / (DRAWN + 1)


def pairs_below(level: float) -> int | None:
    """Count the pairs that it takes for p to fall below a level; None if no number of them does."""
    return next((pairs for pairs in range(1, EXACT + 2) if smallest_p(pairs) < level), None)


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values for their number (Holm, 1979).

    So one that is true of nothing falls below a level as seldom as a single one. `[tests]`, in the order given. A value
    that is NaN is no test, and stays.
    """
    given = _flat(p_values)
    adjusted = given.copy()
    tests = np.flatnonzero(~np.isnan(given))
    order = tests[np.argsort(given[tests], kind="stable")]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)))
    return adjusted


@dataclass(frozen=True)
class Estimate:
    """A mean difference and how sure it is."""

    mean: float
    error: float  # standard error; NaN where one seed is all there is
    freedom: float  # degrees of freedom of the error

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Compute the ends of the interval; NaN where the error cannot be known."""
        reach = self.error * _quantile(self.freedom, level)
        return self.mean - reach, self.mean + reach

    @property
    def p(self) -> float:
        """Find the level at which the interval just reaches 0, and return 1 - level."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else 0.0
        return float(2 * stdtr(_finite(self.freedom), -abs(self.mean) / self.error))


def estimate(differences: ArrayLike, resampled: ArrayLike | None = None, examples: float = inf) -> Estimate:
    """Estimate the mean difference over seeds and examples, both of which might have been others.

    `differences` is `[seeds]`, and `resampled` `[resamples, seeds]`: the difference of each seed on examples drawn with
    replacement, the same for all seeds. `examples` says how many there are. Without `resampled`, the error is that over seeds
    alone. A resample that is NaN anywhere is left out.

    The variance has two parts, as in the bootstrap of crossed factors (Owen, 2007, section 3). That of the seeds is their
    variance over their number, to which the bootstrap of a mean converges, with n - 1 for n. That of the examples is the
    variance of the resampled mean, less the share that also varies between seeds and is already in the first part.

    An interval is that of t, whose inverse degrees of freedom are those of the two parts, weighted by variance. Percentiles
    of a bootstrap over 5 seeds cover 83 to 86 %, and Satterthwaite's degrees of freedom (1946) 92 % for 3 seeds: where so
    few seeds agree by chance, they give the seeds too little weight. These cover 94 to 96 % for 3, 5 and 10 seeds, whichever
    part is larger (`python -m tests.benchmarks.statistics`).
    """
    seen = _flat(differences)
    seeds = len(seen)
    if seeds < 2:
        return Estimate(float(seen.mean()) if seeds else nan, nan, nan)
    between, within = _variances(seen, resampled, examples)
    variance = between + within
    if variance == 0:
        alike = abs(seen.mean()) <= ROUNDING * np.abs(seen).max()
        return Estimate(float(seen.mean()), 0.0 if alike else nan, seeds - 1.0)
    inverse = (between / (seeds - 1) + within / max(examples - 1, 1)) / variance
    return Estimate(float(seen.mean()), sqrt(variance), 1 / inverse if inverse else inf)


def interval(
    differences: ArrayLike, resampled: ArrayLike | None = None, level: float = LEVEL, examples: float = inf
) -> tuple[float, float]:
    """Compute the interval of the mean difference over seeds and examples; see `estimate`.

    Its ends are NaN for one seed.
    """
    return estimate(differences, resampled, examples).interval(level)


def seeds_needed(
    differences: ArrayLike,
    resampled: ArrayLike | None = None,
    examples: float = inf,
    *,
    level: float = LEVEL,
    power: float = POWER,
) -> int | None:
    """Find how many seeds would tell a difference of this size, by this spread, with a power of 80 %.

    None where it cannot be said: one seed, no difference, no spread, or more than a thousand seeds; the last also where it is
    the examples that are too few. A difference that was seen by chance is too large, and then the number is too small.
    """
    seen = _flat(differences)
    if len(seen) < 2 or not np.isfinite(seen).all():
        return None
    between, within = _variances(seen, resampled, examples)
    if between == 0 or abs(seen.mean()) <= ROUNDING * np.abs(seen).max():
        return None
    spread = between * len(seen)

    def enough(seeds: int) -> bool:
        variance = spread / seeds + within
        inverse = (spread / seeds / (seeds - 1) + within / max(examples - 1, 1)) / variance
        return _power(abs(seen.mean()) / sqrt(variance), 1 / inverse, level) >= power

    return _least(enough, 2, MOST_SEEDS)


def _variances(seen: Floats, resampled: ArrayLike | None, examples: float) -> tuple[float, float]:
    """Compute the variance of the mean that is due to the seeds, and the rest, due to the examples."""
    seeds = len(seen)
    alike = np.ptp(seen) <= ROUNDING * np.abs(seen).max()
    between = 0.0 if alike else float(seen.var(ddof=1)) / seeds
    drawn = None if resampled is None else np.asarray(resampled, float).reshape(-1, seeds)
    drawn = None if drawn is None else drawn[np.isfinite(drawn).all(axis=1)]
    if drawn is None or len(drawn) < 2:
        return between, 0.0
    moved = drawn - drawn.mean(axis=0)
    total, own = float(moved.mean(axis=1).var(ddof=1)), float(moved.var(axis=1, ddof=1).mean()) / seeds
    total, own = (part * (examples / (examples - 1) if 1 < examples < inf else 1) for part in (total, own))
    return between, total if alike else max(total - own, 0.0)  # seeds that agree by chance hold no share of it


def _power(distance: float, freedom: float, level: float) -> float:
    """Compute how often a t test finds a difference of so many standard errors on its own side."""
    return float(1 - nctdtr(_finite(freedom), distance, _quantile(freedom, level)))


def _least(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """Find the least number that is enough, or None if the highest is not."""
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _quantile(freedom: float, level: float) -> float:
    return float(stdtrit(_finite(freedom), (1 + level) / 2))


def _finite(freedom: float) -> float:
    return min(freedom, 1e6)  # where t is normal; NaN stays


def _flat(values: ArrayLike) -> Floats:
    return np.asarray(values, float).reshape(-1)
