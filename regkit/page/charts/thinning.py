"""Thinning: show long series by a few points, and several runs by their mean and spread."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

from regkit.page.charts.figures import Point, Points

Band = list[tuple[float, float, float]]


def finite(points: Iterable[Point]) -> list[Point]:
    """Leave out what is not finite."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def thinned(points: Points, most: int) -> list[Point]:
    """Keep about `most` points: of each stretch of the series the lowest and the highest, and both ends."""
    if len(points) <= max(most, 4):
        return list(points)
    inner, stretches = points[1:-1], max(1, (most - 2) // 2)
    kept = [points[0]]
    for number in range(stretches):
        part = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        if part:
            kept += sorted({min(part, key=_y), max(part, key=_y)})
    return [*kept, points[-1]]


def _y(point: Point) -> float:
    return point[1]


def averaged(points: Points, windows: int, span: tuple[float, float]) -> list[Point]:
    """Average a series over windows that cut `span` into equal parts; a window without points has none."""
    low, high = span
    found = defaultdict[int, list[Point]](list)
    for point in points:
        share = (point[0] - low) / (high - low) if high > low else 0.0
        found[min(int(share * windows), windows - 1)].append(point)
    width = (high - low) / windows
    return [(low + (number + 0.5) * width, _mean(y for _, y in found[number])) for number in sorted(found)]


def spread(runs: Sequence[Points], windows: int) -> tuple[list[Point], Band, list[list[Point]]]:
    """Sum up runs: their mean, the band from lowest to highest, and each as it is averaged.

    Runs that have the same places are compared there; others, over windows of the longest.
    """
    runs = [run for run in runs if run]
    if not runs:
        return [], [], []
    longest = max(runs, key=len)
    places = {x for x, _ in longest}
    if len(longest) <= windows and all({x for x, _ in run} <= places for run in runs):
        members = [list(run) for run in runs]
    else:
        span = min(run[0][0] for run in runs), max(run[-1][0] for run in runs)
        members = [averaged(run, min(windows, len(longest)), span) for run in runs]
    at = defaultdict[float, list[float]](list)
    for x, y in (point for run in members for point in run):
        at[x].append(y)
    return (
        [(x, _mean(at[x])) for x in sorted(at)],
        [(x, min(at[x]), max(at[x])) for x in sorted(at)],
        members,
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    largest = max(map(abs, found)) or 1.0
    return largest * fmean(value / largest for value in found)  # their sum may be more than a float can hold
