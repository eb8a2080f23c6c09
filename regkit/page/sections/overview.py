"""Overview: list runs with their state and scores, and collect what whoever reads on must know."""

import os
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev

from regkit.base.files import read_object
from regkit.base.wording import in_time
from regkit.page.charts.scales import DASH, fixed
from regkit.page.document import Block, Grid, Note
from regkit.page.reading.groups import Group, Shown, all_runs, brief

FOLDED = 12  # rows of a table that is folded where it has more
LISTED = 20  # skipped steps
WORDS = frozenset({0, 1})  # columns of words
FILES = {"scores.json": "the best scores are", "effects.json": "what plugins did is"}


def state(run: Shown) -> str:
    """Say whether a run is finished, and how far one is that is not."""
    return run.run.state if run.run.state == "finished" else f"{run.run.state}, after step {run.log.end:.0f}"


def runs(groups: Sequence[Group]) -> list[Block]:
    """List the groups with the mean and spread of their scores, and then each run."""
    scores = list(
        dict.fromkeys((task, name) for run in all_runs(groups) for task, (name, _) in run.main_scores.items())
    )
    head, named = [f"{task} {name}" for task, name in scores], len(groups) > 1
    means = [[group.name, str(len(group.runs)), *(_spread(group, *each) for each in scores)] for group in groups]
    single = [
        [run.name, *([group.name] if named else []), state(run), brief(run.settings.get("seed")), _time(run)]
        + [fixed(run.score(*each)) for each in scores]
        for group in groups
        for run in group.runs
    ]
    columns = ["run", *(["settings"] if named else []), "state", "seed", "time", *head]
    caption = "Dev scores of the best checkpoints: mean and standard deviation over seeds"
    return [
        Grid(caption, ["settings", "runs", *head], means),
        Grid("Each run", columns, single, frozenset(range(2 + named)), folded=len(single) > FOLDED),
    ]


def _time(run: Shown) -> str:
    return DASH if run.run.seconds is None else in_time(run.run.seconds)


def _spread(group: Group, task: str, name: str) -> str:
    found = [value for run in group.runs if (value := run.score(task, name)) == value]
    if not found:
        return DASH
    return f"{fixed(fmean(found))} \N{PLUS-MINUS SIGN} {fixed(stdev(found))}" if len(found) > 1 else fixed(found[0])


def warnings(groups: Sequence[Group]) -> list[Block]:
    """Collect the warnings of the effect meter, what could not be read, and the steps that were skipped."""
    found = all_runs(groups)
    said = Counter(line for run in found for line in _of_meter(run))
    lines = _unfinished(found)
    lines += [line if len(found) == 1 else f"{line} (in {count} of {len(found)} runs)" for line, count in said.items()]
    for run in found:
        lines += [f"{run.name}: {line}" if len(found) > 1 else line for line in _of_files(run)]
    blocks: list[Block] = [Note(lines, warning=True)] if lines else []
    return blocks + _skipped(found)


def _unfinished(found: Sequence[Shown]) -> list[str]:
    """Say which runs are not finished, so that what a page shows of them is not taken for their end."""
    names = [state(run) if len(found) == 1 else run.name for run in found if run.run.state != "finished"]
    return [f"Not finished: {', '.join(names)}"] if names else []


def _of_meter(run: Shown) -> list[str]:
    """List the warnings that a run has written itself."""
    said = run.effects.get("warnings")
    return list(map(str, said)) if isinstance(said, list) else []


def _of_files(run: Shown) -> list[str]:
    """Say what of a run's files cannot be shown, and where its batches were cut smaller."""
    log = run.log
    lines = [] if run.run.settings else ["config.toml cannot be read, so the settings are not shown"]
    lines += [f"{name} cannot be read, so {what} not shown" for name, what in FILES.items() if _is_damaged(run, name)]
    lines += [f"{_count(log.broken, 'line')} of the log cannot be read"] if log.broken else []
    lines += [f"{_count(log.infinite, 'number')} in the log not finite, and not drawn"] if log.infinite else []
    fits = "to fit in memory"
    return lines + [
        f"from step {at + 1:.0f} on, micro-batches have at most {most} tokens, {fits}" for at, most in log.smaller
    ]


def _is_damaged(run: Shown, name: str) -> bool:
    """Whether a file is there, and holds no JSON object."""
    return os.path.lexists(run.folder / name) and not read_object(run.folder / name)


def _count(number: int, what: str) -> str:
    """Count things: `1 line`, `3 lines`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _skipped(found: Sequence[Shown]) -> list[Block]:
    """List the steps that were skipped."""
    skipped = [(run, at, causes) for run in found for at, causes in run.log.skipped]
    if not skipped:
        return []
    rows = [
        [f"{run.name}, step {at:.0f}" if len(found) > 1 else f"{at:.0f}", "; ".join(causes)]
        for run, at, causes in skipped[:LISTED]
    ]
    more = f"; the first {LISTED} of {len(skipped)}" if len(skipped) > LISTED else ""
    return [Grid(f"Steps that were skipped: a number was not finite{more}", ["step", "what"], rows, WORDS)]
