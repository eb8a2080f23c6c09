"""Summarize: make the table of an ablation from what its runs came to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite, nan
from typing import Any

import numpy as np

from regkit.base.errors import ConfigError, nearest
from regkit.experiments.controls import is_control, is_method
from regkit.experiments.statistics import drawn, paired
from regkit.experiments.statistics.drawn import Drawn
from regkit.experiments.statistics.scorers import CALIBRATION
from regkit.experiments.study.results import Result
from regkit.experiments.tables.notes import notes_of
from regkit.experiments.tables.table import DROP, MEAN, Column, Cost, Difference, Entry, Rival, Row, Table
from regkit.tasks.names import UNDER, Split

SPLITS: Sequence[Split] = ("dev", "test")

Finished = Mapping[str, Mapping[int, Result]]  # by row and seed
Values = Mapping[str, Mapping[int, float]]  # of a column, by row and seed


def summarize(name: str, rows: Mapping[str, Mapping[str, Any]], results: Iterable[Result], baseline: str) -> Table:
    """Compare each row with the baseline, seed by seed.

    `rows` has what each row changes, by its name, in the table's order. Runs that are not finished, or failed, are named and
    not counted. Answers of runs are read from their folders; without them, intervals are over seeds alone, and a note says
    so. Raises ConfigError if no row is called like the baseline.
    """
    if baseline not in rows:
        raise ConfigError(f"no row is called '{baseline}', as the baseline should be. {nearest(baseline, rows)}")
    every = [result for result in results if result.row in rows]
    finished = {row: _by_seed(each for each in every if each.row == row) for row in rows}
    columns = columns_of(finished)
    answers = _drawn(finished, columns, baseline)
    against = [row for row, changes in rows.items() if is_control(changes)]
    methods = [row for row, changes in rows.items() if is_method(changes)]
    entries = {
        column: _entries(finished, column, _parts(column, columns), baseline, methods, against, answers[column])
        for column in columns
    }
    made = [
        Row(
            name=row,
            settings=settings,
            entries={column: found[row] for column, found in entries.items() if row in found},
            cost=_cost(finished[row], finished[baseline]),
            effects=next((_of_seed(seed, result.effects) for seed, result in finished[row].items()), ()),
            failures={each.seed: each.error for each in every if each.row == row and each.state == "failed"},
            missing=sorted(each.seed for each in every if each.row == row and each.state in ("running", "waiting")),
        )
        for row, settings in rows.items()
    ]
    table = Table(name, columns, made, baseline)
    return replace(table, notes=notes_of(table, answers))


def _of_seed(seed: int, lines: Sequence[str]) -> list[str]:
    return [f"seed {seed}: {line}" for line in lines]


def _by_seed(results: Iterable[Result]) -> dict[int, Result]:
    return {each.seed: each for each in sorted(results, key=lambda each: each.seed) if each.state == "finished"}


def columns_of(finished: Finished) -> list[Column]:
    """List the scores that decide of each task, split by split, and then the other ones.

    Where there are several tasks, their mean is one of those that decide. Splits with changed examples come after the
    others, then calibration, and the drop from the best evaluation to the last where there is one.
    """
    runs = [result for row in finished.values() for result in row.values()]
    mains = {task: main for result in reversed(runs) for task, main in result.mains.items()}
    order = dict.fromkeys(task for result in runs for task in result.mains)
    found = []
    splits = [
        *SPLITS,
        *(split for split in dict.fromkeys(each for run in runs for each in run.scores) if UNDER in split),
    ]
    for split in splits:
        tasks = [
            Column(split, task, *mains[task])
            for task in order
            if any(isfinite(score(result, Column(split, task, *mains[task]))) for result in runs)
        ]
        found += [*tasks, Column(split, MEAN)] if len(tasks) > 1 else tasks
    calibration = [Column(split, task, metric, True) for split in SPLITS for metric in CALIBRATION for task in order]
    found += [column for column in calibration if any(isfinite(score(run, column)) for run in runs)]
    if any(run.drop and isfinite(run.drop) for run in runs):
        found.append(Column("dev", MEAN if len(order) > 1 else next(iter(order)), DROP, True))
    return found


def score(result: Result, column: Column) -> float:
    """Look up a run's score; NaN if it has none."""
    if column.metric == DROP:
        return result.drop
    return result.scores.get(column.split, {}).get(column.task, {}).get(column.metric, nan)


def _parts(column: Column, columns: Sequence[Column]) -> list[Column]:
    """List the tasks' columns of which a column is made.

    That is itself, or those of its split that it is the mean of.
    """
    if column.task != MEAN or column.metric:
        return [column]
    return [each for each in columns if each.split == column.split and each.metric not in ("", *CALIBRATION, DROP)]


def _drawn(finished: Finished, columns: Sequence[Column], baseline: str) -> dict[Column, Drawn]:
    """Score the runs on drawn examples, those of the baseline first, for each column."""
    runs = [run for row in (baseline, *finished) for run in finished[row].values()]
    found = drawn.draw(runs, [column for column in columns if column.metric])
    means = [column for column in columns if not column.metric]
    return found | {column: drawn.mean({part: found[part] for part in _parts(column, columns)}) for column in means}


def _entries(
    finished: Finished,
    column: Column,
    parts: Sequence[Column],
    baseline: str,
    methods: Sequence[str],
    controls: Sequence[str],
    answers: Drawn,
) -> dict[str, Entry]:
    """Fill a column that is a task's, or the mean of several: a cell for each row that has such a score."""
    values = {row: _scores(runs, parts) for row, runs in finished.items()}
    found = {row: _difference(row, baseline, values, answers) for row in values if row != baseline}
    corrected = _over_rows({row: each for row, each in found.items() if each})
    rivals = _rivals(methods, controls, values, answers, -1.0 if column.lower_is_better else 1.0)
    return {row: _entry(each, corrected.get(row), rivals.get(row)) for row, each in values.items() if each}


def _rivals(
    methods: Sequence[str], controls: Sequence[str], values: Values, answers: Drawn, sign: float
) -> dict[str, Rival]:
    """Compare each method with every control.

    There is none to compare with where only one is plain: it is the baseline, or nobody's rival. A method that is better
    than the best control has to be better than all, so that the largest p over the controls is that of the whole claim, and
    their number costs nothing (Berger, 1982).
    """
    if len(controls) < 2:
        return {}
    found = {}
    for row in (row for row in methods if row in values):
        against = {control: _difference(row, control, values, answers) for control in controls}
        if known := {control: each for control, each in against.items() if each}:
            found[row] = _hardest(known, sign)
    corrected = _over_rows({row: each.difference for row, each in found.items()})
    return {row: replace(each, difference=corrected[row]) for row, each in found.items()}


def _hardest(against: Mapping[str, Difference], sign: float) -> Rival:
    """Choose the control that a method is least better than; `sign` is that of what is better."""
    control = min(against, key=lambda name: sign * against[name].mean)
    ahead = sign * against[control].mean > 0
    p, doubt = (max(getattr(each, name) for each in against.values()) if ahead else 1.0 for name in ("p", "doubt"))
    return Rival(control, replace(against[control], p=p, doubt=doubt))


def _scores(runs: Mapping[int, Result], parts: Sequence[Column]) -> dict[int, float]:
    """Look up the score of each seed that has one.

    In a mean, one of which less is better has its sign turned.
    """
    signs = [-1.0 if part.lower_is_better and len(parts) > 1 else 1.0 for part in parts]
    found = {
        seed: float(np.mean([sign * score(run, part) for sign, part in zip(signs, parts, strict=True)]))
        for seed, run in runs.items()
    }
    return {seed: value for seed, value in found.items() if not np.isnan(value)}


def _entry(values: Mapping[int, float], difference: Difference | None, rival: Rival | None) -> Entry:
    each = np.array(list(values.values()))
    deviation = float(each.std(ddof=1)) if len(each) > 1 and np.isfinite(each).all() else nan
    return Entry(values, float(each.mean()), deviation, difference, rival)


def _difference(row: str, baseline: str, values: Values, answers: Drawn) -> Difference | None:
    """Compare a row with the baseline over the seeds that both have; None if there are none."""
    own, theirs = values[row], values[baseline]
    seeds = [seed for seed in own if isfinite(own[seed]) and isfinite(theirs.get(seed, nan))]
    if not seeds:
        return None
    seen = [own[seed] - theirs[seed] for seed in seeds]
    resampled = answers.difference(row, baseline, seeds)
    found = paired.estimate(seen, resampled, answers.examples)
    low, high = found.interval()
    return Difference(
        mean=found.mean,
        low=low,
        high=high,
        p=paired.sign_flip(seen),
        adjusted=nan,
        pairs=len(seeds),
        smallest=paired.smallest_p(len(seeds)),
        needed=paired.seeds_needed(seen, resampled, answers.examples),
        doubt=found.p,
    )


def _over_rows(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """Adjust what is told of each row for the number of rows that are compared."""
    each = differences.values()
    adjusted = paired.holm([one.p for one in each])
    doubts = paired.holm([one.doubt for one in each])
    return {
        row: replace(one, adjusted=float(p), doubt=float(doubt))
        for (row, one), p, doubt in zip(differences.items(), adjusted, doubts, strict=True)
    }


def _cost(runs: Mapping[int, Result], baseline: Mapping[int, Result]) -> Cost | None:
    """Average what a row's runs took; None if none is finished."""
    if not runs:
        return None
    ratios = [runs[seed].seconds / baseline[seed].seconds for seed in runs if seed in baseline]
    return Cost(
        seconds=_average([run.seconds for run in runs.values()]),
        memory=_average([run.memory for run in runs.values()]),
        operations=_average([run.operations for run in runs.values()]),
        seconds_ratio=float(np.median(ratios)) if ratios and np.isfinite(ratios).all() else None,
    )


def _average(values: Sequence[float]) -> float:
    known = [value for value in values if isfinite(value)]
    return float(np.mean(known)) if known else nan
