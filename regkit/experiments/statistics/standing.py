"""Standing: how a row of a race compares with one plain control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from regkit.experiments.statistics.looks import chance

HOPELESS = 0.1  # chance of being told better below which a row is dropped
SAME = 3  # seeds after which a row whose scores are all those of a control is dropped
ROUNDING = 1e-9  # of the largest difference: a spread that is none

State = Literal["open", "better", "worse", "hopeless", "same"]
WHY: Mapping[State, str] = {
    "worse": "it is worse than",
    "hopeless": "it is not going to be better than",
    "same": "it has the same scores as",
}


@dataclass(frozen=True)
class Standing:
    """How a row compares with one control, after the look that decided or the latest one."""

    state: State
    pairs: int
    mean: float  # -inf where there are no pairs
    low: float = nan  # ends of an interval that holds the true difference at all looks together
    high: float = nan
    spread: float = nan  # standard deviation of the differences


def compare(differences: Sequence[float], boundary: NDArray[np.float64]) -> Standing:
    """Look at the differences after each seed, and stop at the look that decides.

    `boundary` is how many standard errors from 0 a mean is told, by number of pairs; see `boundaries`.
    """
    found = Standing("open", len(differences), mean=fmean(differences) if differences else -inf)
    for pairs in range(2, len(differences) + 1):
        found = _look(differences[:pairs], boundary)
        if found.state != "open":
            break
    return found


def _look(differences: Sequence[float], boundary: NDArray[np.float64]) -> Standing:
    pairs, mean = len(differences), fmean(differences)
    spread = sqrt(sum((each - mean) ** 2 for each in differences) / (pairs - 1))
    if spread <= ROUNDING * max(map(abs, differences)):  # seeds that agree by chance tell nothing of the spread
        return Standing("same" if not any(differences) and pairs >= SAME else "open", pairs, mean)
    reach = boundary[pairs] * spread / sqrt(pairs)
    state: State = "better" if mean > reach else "worse" if mean < -reach else "open"
    if state == "open" and _is_hopeless(mean, spread, pairs, boundary):
        state = "hopeless"
    return Standing(state, pairs, mean, mean - reach, mean + reach, spread)


def _is_hopeless(mean: float, spread: float, pairs: int, boundary: NDArray[np.float64]) -> bool:
    """Tell whether neither the seeds of the race nor as many again would be likely to show the row better."""
    most = len(boundary) - 1
    return pairs < most and chance(mean, spread, pairs, boundary[most], max(most, 2 * pairs)) < HOPELESS


def reason(found: Mapping[str, Standing]) -> str:
    """Say by which control a row was dropped, and why; nothing for one that was not."""
    return next((f"{WHY[each.state]} '{control}'" for control, each in found.items() if each.state in WHY), "")
