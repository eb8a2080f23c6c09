"""Drawn: score the runs of a study on drawn examples.

The answers are those that the runs left in their folders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from regkit.base.errors import RunError
from regkit.experiments.statistics.resampling import alike, resample
from regkit.experiments.statistics.scorers import is_scored
from regkit.experiments.study.results import Result
from regkit.experiments.tables.table import Column
from regkit.runs import evidence
from regkit.runs.evidence import Answers, Evidence

Floats = NDArray[np.float64]
Cell = tuple[str, int]  # row and seed


@dataclass(frozen=True)
class Drawn:
    """What the runs would have scored in one column on other examples, as far as their answers are there."""

    scores: Mapping[Cell, Floats]  # [resamples] each
    examples: float = inf  # of the split

    def difference(self, row: str, baseline: str, seeds: Sequence[int]) -> Floats | None:
        """Subtract the baseline's scores, `[resamples, seeds]`; None if a run's are not there."""
        if any((name, seed) not in self.scores for name in (row, baseline) for seed in seeds):
            return None
        return np.stack([self.scores[row, seed] - self.scores[baseline, seed] for seed in seeds], axis=1)


def draw(runs: Sequence[Result], columns: Sequence[Column]) -> dict[Column, Drawn]:
    """Score the runs on drawn examples, for each column of a task.

    The first run says which examples there are.
    """
    answers = {(run.row, run.seed): _answers(run) for run in runs}
    return {column: _draw(answers, column) for column in columns}


def mean(parts: Mapping[Column, Drawn]) -> Drawn:
    """Average over tasks; scores of which less is better count with their sign turned."""
    resamples = min((len(each) for part in parts.values() for each in part.scores.values()), default=0)
    every = [part.scores.keys() for part in parts.values()]
    cells = [cell for cell in every[0] if all(cell in others for others in every)]
    signs = [-1.0 if column.lower_is_better else 1.0 for column in parts]
    found = {
        cell: np.mean(
            [sign * part.scores[cell][:resamples] for sign, part in zip(signs, parts.values(), strict=True)], axis=0
        )
        for cell in cells
    }
    return Drawn(found, min(part.examples for part in parts.values()))


def _answers(run: Result) -> Answers:
    """Read what a run answered; nothing, where its folder is on another machine or is damaged."""
    if run.folder is None:
        return {}
    try:
        return evidence.load(run.folder)
    except RunError:
        return {}


def _draw(answers: Mapping[Cell, Answers], column: Column) -> Drawn:
    given = {cell: found.get(column.split, {}).get(column.task) for cell, found in answers.items()}
    there = {cell: each for cell, each in given.items() if each and is_scored(each, column.metric)}
    if not there:
        return Drawn({})
    first: Evidence = next(iter(there.values()))
    same = {cell: each for cell, each in there.items() if alike([first, each])}
    scores = resample(list(same.values()), column.metric)
    return Drawn(dict(zip(same, scores.T, strict=True)), len(first.ids))
