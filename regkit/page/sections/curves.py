"""Curves: turn the logs of groups of runs into charts."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from regkit.page.charts.figures import Curve, Curves, Points
from regkit.page.charts.svg import STYLES
from regkit.page.charts.thinning import averaged, spread, thinned
from regkit.page.reading.groups import Group
from regkit.page.reading.logs import Log

Series = Mapping[Any, Points]
BUDGET = 40_000  # points of a panel: more would make a page of many runs large
MOST, FEWEST = 240, 12  # points of a line
WINDOWS = 60  # over which a noisy series is averaged


def curves(
    groups: Sequence[Group],
    pick: Callable[[Log], Series],
    split: Callable[[Any], tuple[str, str]],
    *,
    noisy: bool = True,
    bounds: tuple[float, float] | None = None,
) -> list[Curves]:
    """Draw series of runs: a chart for each facet, with a line for each of its series, or for each group.

    `split` cuts the key of a series into the name of a chart, and that of a line in it. With several groups, each
    series has a chart of its own, and the groups are the lines.
    """
    found = [[pick(run.log) for run in group.runs] for group in groups]
    keys: list[Hashable] = list(dict.fromkeys(key for group in found for series in group for key in series))
    lines = len(keys) * sum(map(len, found))
    most = max(FEWEST, min(MOST, BUDGET // max(1, lines)))
    colours = _colours(groups)
    charts: dict[str, list[Curve]] = {}
    styles: dict[str, int] = {}
    several = Counter(split(key)[0] for key in keys)
    for key in keys:
        facet, line = split(key)
        if len(groups) > 1:
            facet = f"{facet}: {line}" if several[facet] > 1 else facet
        for number, (group, series) in enumerate(zip(groups, found, strict=True)):
            runs = [each[key] for each in series if each.get(key)]
            if not runs:
                continue
            name = group.name if len(groups) > 1 else line
            style = colours.get(number, 0) if len(groups) > 1 else styles.setdefault(line, len(styles))
            curve = _curve(name, runs, most, noisy=noisy, alone=len(groups) == 1, style=style)
            charts.setdefault(facet, []).append(_muted(curve) if number not in colours else curve)
    end = max((run.log.end for group in groups for run in group.runs), default=0.0)
    return [Curves(title, each, bounds=bounds, end=end, marks=_marks(groups)) for title, each in charts.items()]


def _curve(name: str, runs: Sequence[Points], most: int, *, noisy: bool, alone: bool, style: int) -> Curve:
    """Draw one run as it is, and averaged where it is noisy; of several, the mean, the band, and each."""
    if len(runs) == 1:
        (points,) = runs
        windows = min(WINDOWS, most, len(points) // 4)
        if not noisy or windows < 4:
            return Curve(name, thinned(points, most), style=style)
        line = averaged(points, windows, (points[0][0], points[-1][0]))
        return Curve(name, line, members=[thinned(points, most)] if alone else (), style=style)
    windows = min(WINDOWS, most, max(4, min(map(len, runs)) // 4)) if noisy else most
    points, band, members = spread(runs, windows)
    return Curve(name, points, band, members, style)


def _colours(groups: Sequence[Group]) -> dict[int, int]:
    """Give each group a colour; with more groups than colours, the best have one, and the others are grey."""
    ranked = sorted(range(len(groups)), key=lambda number: -groups[number].score)
    return {number: colour for colour, number in enumerate(sorted(ranked[:STYLES]))}


def _muted(curve: Curve) -> Curve:
    return Curve(curve.name, curve.points, muted=True)


def _marks(groups: Sequence[Group]) -> list[tuple[float, str]]:
    """Mark where stages begin and steps were skipped, if there is one run alone."""
    if len(groups) != 1 or len(groups[0].runs) != 1:
        return []
    log = groups[0].runs[0].log
    stages = [(at, f"stage {name} begins") for at, name in log.stages[1:]]
    return stages + [(at, f"step {at:.0f} was skipped") for at, _ in log.skipped[:50]]
