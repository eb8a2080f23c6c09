"""Progress: draw the scores and losses of runs over their steps."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from regkit.page.charts.scales import fixed, signed
from regkit.page.document import Block, Grid, Note, Panel
from regkit.page.reading.groups import Group, Shown, several
from regkit.page.reading.logs import TASK, Log, Series
from regkit.page.sections.curves import curves

FOLDED = 36  # rows of a table that is folded where it has more
LOSS, RATE = "loss", "learning rate"


def scores(groups: Sequence[Group]) -> list[Block]:
    """Draw the dev scores over steps; of one run, also list them."""
    blocks: list[Block] = [] if several(groups) else _listed(groups[0].runs[0])
    for caption, is_loss in (("Scores on dev", False), ("Loss on dev", True)):
        pick = partial(_chosen, is_loss=is_loss)
        if charts := curves(groups, pick, lambda key: (" ".join(key), "score"), noisy=False):
            blocks.append(Panel(_said(groups, caption), charts))
    return blocks or [Note(["No evaluation has been logged yet."])]


def _listed(run: Shown) -> list[Block]:
    """List the scores before training, at the best checkpoint, and at the end."""
    rows = []
    for (task, name), points in run.log.scores.items():
        (first, before), (_, last) = points[0], points[-1]
        change = "" if first or len(points) == 1 else signed(last - before)
        began = _of_sample(run.log, task, name) if first else fixed(before)
        rows.append([f"{task} {name}", began, fixed(run.score(task, name)), fixed(last), change])
    head = ["score", "before training", "best checkpoint", "last", "change"]
    return [Grid("Scores on dev", head, rows, folded=len(rows) > FOLDED)] if rows else []


def _of_sample(log: Log, task: str, name: str) -> str:
    """Write the score of a sample before training, and of how many examples; nothing if none was taken."""
    if (task, name) not in log.samples:
        return ""
    value, examples = log.samples[task, name]
    return f"{fixed(value)} (of {examples} examples)"


def _chosen(log: Log, is_loss: bool) -> Series:
    """Choose the dev losses, or the other scores: the first of each task, then the second of each."""
    place, counts = dict[Any, int](), Counter[str]()
    for task, name in log.scores:
        place[task, name] = counts[task]
        counts[task] += name != LOSS
    chosen = [key for key in log.scores if (key[1] == LOSS) == is_loss]
    return {key: log.scores[key] for key in sorted(chosen, key=lambda key: 0 if is_loss else place[key])}


def _said(groups: Sequence[Group], what: str, *, noisy: bool = False) -> str:
    """Say what the lines of a panel are."""
    if max(len(group.runs) for group in groups) > 1:
        return f"{what}. Thick: the mean over seeds; band: from lowest to highest; thin: each seed."
    if noisy and not several(groups):
        return f"{what}. Thin: as logged; thick: the mean over windows."
    return f"{what}."


def losses(groups: Sequence[Group]) -> list[Block]:
    """Draw each term of each task's loss, and the learning rate."""
    charts = curves(groups, lambda log: log.losses, lambda key: (" ".join(key), LOSS))
    if not charts:
        return [Note(["No update has been logged yet."])]
    charts.sort(key=lambda chart: not chart.title.endswith(f" {TASK}"))  # the tasks' own, and then what plugins add
    charts += curves(groups, lambda log: {RATE: log.rates}, lambda key: (RATE, LOSS), noisy=False)
    return [Panel(_said(groups, "Terms of the training loss", noisy=True), charts)]
