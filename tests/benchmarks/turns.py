"""Turns: time several ways of the same work in turn, and compare each with the first, round by round.

A machine that others use is slow at one moment and fast at the next: times differ, while ratios of one round hold.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tests.benchmarks.alike import Outcome

Work = Callable[[int], object]
Clock = Callable[[Work, int], float]  # does the work number n. Returns seconds
WARM_UP = 3  # rounds that are not counted: regkit watches plugins closely in the first three updates


@dataclass(frozen=True)
class Way:
    """One way to do the work of a table, ready to run."""

    work: Work  # does the work number n
    outcome: Callable[[], Outcome] | None = None  # what work 0 computes without dropout; called before any work
    units: Callable[[int], int] | None = None  # how many tokens, or texts, work number n has


@dataclass(frozen=True)
class Spread:
    """The median and the quartiles of some numbers."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        return cls(float(median), float(low), float(high))


def clock_of(device: torch.device) -> Clock:
    """Choose the clock: events on a GPU; the processor's time on a CPU, where others may be at work."""
    if device.type != "cuda":
        return seconds_of_processor

    def seconds(work: Work, number: int) -> float:
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)  # nothing of the work before is left to do
        began.record()
        work(number)
        ended.record()
        torch.cuda.synchronize(device)
        return began.elapsed_time(ended) / 1000

    return seconds


def seconds_of_processor(work: Work, number: int) -> float:
    """Measure the time of all threads of this process."""
    began = time.process_time()
    work(number)
    return time.process_time() - began


def in_turn(works: Mapping[str, Work], rounds: int, clock: Clock, warm_up: int = WARM_UP) -> dict[str, list[float]]:
    """Time every way in every round, in the other order each second round. Returns seconds, by way and round."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + warm_up):
        for name in list(works)[:: 1 if number % 2 else -1]:
            taken[name].append(clock(works[name], number))
    return {name: times[warm_up:] for name, times in taken.items()}


def ratios(taken: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Divide the times of each way by those of the first, round by round."""
    base = next(iter(taken.values()))
    return {name: [one / other for one, other in zip(times, base, strict=True)] for name, times in taken.items()}
