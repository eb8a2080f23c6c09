"""Methods: show what the plugins of runs did and cost, as the effect meter measured it."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from regkit.base.wording import percent
from regkit.page.charts.scales import is_number, number
from regkit.page.document import Block, Grid, Panel
from regkit.page.reading.groups import Group
from regkit.page.reading.logs import TASK, Log, Series
from regkit.page.sections.curves import curves

FOLDED = 24  # rows of a table that is folded where it has more
SHARE, TIME, PASSES = "share of the gradient", "share of the time", "extra passes"  # as effects.json calls them


def effects(groups: Sequence[Group]) -> list[Block]:
    """Show shares of the gradient and of the time, and what plugins measure of themselves."""
    shares = curves(groups, _added, lambda key: (f"{key[0]}: {SHARE}", key[1]), bounds=(0.0, 0.0))
    times = curves(groups, _spent, lambda key: (TIME, key), bounds=(0.0, 0.0))
    measures = curves(groups, lambda log: log.measures, lambda key: (f"{key[0]}: {key[1]}", key[2]))
    panels = [
        Panel("Share of the gradient of each term that a plugin adds.", shares),
        Panel("Share of the time of a step.", times),
        Panel("What plugins measure of themselves.", measures),
    ]
    return [*_terms(groups), *_plugins(groups), *(panel for panel in panels if panel.figures)]


def _added(log: Log) -> Series:
    """The shares of the gradient of what plugins add: the task's own is the rest."""
    return {key: points for key, points in log.shares.items() if key[1] != TASK}


def _spent(log: Log) -> Series:
    """The shares of the time of the plugins that take any."""
    return {key: points for key, points in log.times.items() if any(y for _, y in points)}


def _terms(groups: Sequence[Group]) -> list[Block]:
    """List the size and the share of the gradient of each term, unless the task's own is all there is."""
    rows = [
        [term, *_named(groups, group), number(size), f"{percent(share)} %"]
        for group in groups
        for term, size, share in _averages(group, "terms", "size", SHARE)
    ]
    if all(row[0] == TASK for row in rows):
        return []
    return [_grid("Terms of the loss, means over measured steps", "term", ["size", SHARE], rows, groups)]


def _plugins(groups: Sequence[Group]) -> list[Block]:
    """List the share of the time and the extra passes of each plugin."""
    rows = [
        [plugin, *_named(groups, group), f"{percent(time)} %", number(passes)]
        for group in groups
        for plugin, time, passes in _averages(group, "plugins", TIME, PASSES)
    ]
    return [_grid("Plugins, means over measured steps", "plugin", [TIME, PASSES], rows, groups)] if rows else []


def _named(groups: Sequence[Group], group: Group) -> list[str]:
    return [group.name] if len(groups) > 1 else []


def _grid(
    caption: str, owner: str, head: Sequence[str], rows: Sequence[Sequence[str]], groups: Sequence[Group]
) -> Grid:
    names = [owner, *(["settings"] if len(groups) > 1 else [])]
    return Grid(caption, [*names, *head], rows, frozenset(range(len(names))), folded=len(rows) > FOLDED)


def _averages(group: Group, part: str, *names: str) -> list[tuple[Any, ...]]:
    """Average numbers of effects.json over the runs of a group, by their owner."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for run in group.runs:
        owners = run.effects.get(part)
        for owner, values in owners.items() if isinstance(owners, dict) else ():
            if isinstance(values, dict) and all(is_number(values.get(name)) for name in names):
                found[owner].append([values[name] for name in names])
    return [(owner, *map(fmean, zip(*rows, strict=True))) for owner, rows in found.items()]
