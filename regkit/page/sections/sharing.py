"""Sharing: show how tasks share the updates of runs, and where their gradients conflict."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean

from regkit.base.files import read_object
from regkit.base.wording import percent
from regkit.page.charts.figures import Figure, Matrix
from regkit.page.charts.scales import fixed
from regkit.page.document import Block, Grid, Panel
from regkit.page.reading.groups import Group, Shown, all_runs, brief
from regkit.page.reading.logs import Log, Series, turns
from regkit.page.sections.curves import curves
from regkit.runs.folders import ENVIRONMENT

FOLDED = 24  # rows of a table that is folded where it has more
PAIRS = 6  # of tasks whose cosines are drawn


def tasks(groups: Sequence[Group]) -> list[Block]:
    """Show how many updates each task got, and where the gradients of two conflict."""
    updates = Counter[str]()
    for run in all_runs(groups):
        updates.update({task: len(steps) for task, steps in run.log.updates.items()})
    blocks = _updates(groups, updates) if len(updates) > 1 else []
    return blocks + _conflicts(groups, list(updates))


def _updates(groups: Sequence[Group], updates: Counter[str]) -> list[Block]:
    runs = all_runs(groups)
    whole = sum(len(run.log.rates) for run in runs) or 1
    rows = [
        [task, *_examples(runs[0], task), str(count), f"{percent(count / whole)} %"] for task, count in updates.items()
    ]
    head = ["task", "train examples", "dev examples", "updates", "share"]
    caption = "Tasks. An update may be of several" if updates.total() > whole else "Tasks"
    charts = curves(groups, turns, lambda key: ("share of the updates", key), noisy=False, bounds=(0.0, 1.0))
    return [Grid(caption, head, rows, folded=len(rows) > FOLDED), Panel("Share of the updates over time.", charts)]


def _examples(run: Shown, task: str) -> list[str]:
    """Say how many examples a task has, as the run has noted it."""
    tasks = read_object(run.folder / ENVIRONMENT).get("examples")
    splits = tasks.get(task) if isinstance(tasks, dict) else None
    return [brief(splits.get(split, "")) if isinstance(splits, dict) else "" for split in ("train", "dev")]


def _conflicts(groups: Sequence[Group], tasks: Sequence[str]) -> list[Block]:
    """Show cosines between the gradients of tasks: below 0, an update for one undoes some of the other's."""
    found: dict[str, list[float]] = defaultdict(list)
    for run in all_runs(groups):
        for pair, points in run.log.cosines.items():
            found[pair] += [y for _, y in points]
    if not found:
        return []
    means = dict(sorted(((pair, fmean(values)) for pair, values in found.items()), key=lambda each: each[1]))
    rows = [[pair, fixed(mean), _negative(found[pair]), str(len(found[pair]))] for pair, mean in means.items()]
    caption = "Gradients of two tasks in the same step; below 0 they conflict"
    table = Grid(caption, ["tasks", "mean cosine", "conflicts", "measured"], rows, folded=len(rows) > FOLDED)
    lowest = set(list(means)[:PAIRS])
    charts: list[Figure] = []
    charts += curves(groups, partial(_among, lowest), lambda key: ("cosine of two gradients", key), bounds=(0.0, 0.0))
    charts += [_matrix(tasks, means)] if len(groups) == 1 else []
    return [table, Panel(f"Cosine of the gradients{f', the {PAIRS} lowest' if len(rows) > PAIRS else ''}.", charts)]


def _negative(cosines: Sequence[float]) -> str:
    return f"{percent(fmean(cosine < 0 for cosine in cosines))} %"


def _among(pairs: set[str], log: Log) -> Series:
    return {pair: points for pair, points in log.cosines.items() if pair in pairs}


def _matrix(tasks: Sequence[str], means: Mapping[str, float]) -> Matrix:
    def between(one: str, other: str) -> float | None:
        return means.get(f"{one} and {other}", means.get(f"{other} and {one}"))

    values = [[between(one, other) if one != other else None for other in tasks] for one in tasks]
    return Matrix("mean cosine of the gradients", tasks, tasks, values)
