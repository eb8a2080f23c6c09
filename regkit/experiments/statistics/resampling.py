"""Resampling: draw other examples, the same for every run (Efron, 1979).

The draws depend on the size of a split and on nothing else. So rows and seeds share them, and what is hard for every run
cancels out of their differences.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regkit.experiments.statistics.scorers import CALIBRATION, scorer
from regkit.runs.evidence import Evidence
from regkit.tasks.objectives import MaskedWords
from regkit.training.mistakes import calibration

RESAMPLES = 1000  # the error of an interval's half width is about 2 %
FEW = 200  # of a score that has to be computed anew from the drawn rows, which takes milliseconds each; about 5 %
SEED = 0
COUNTS = 2**21  # at a time: 16 MiB

Floats = NDArray[np.float64]


def resample(answers: Sequence[Evidence], metric: str, resamples: int = RESAMPLES) -> Floats:
    """Score runs on examples of their split that are drawn with replacement: `[resamples, runs]`.

    The runs answer the same examples in the same order; see `alike`. A score that the labels of a draw do not define is NaN.
    One that cannot be computed from counts has fewer resamples, the first 200 of the same draws.
    """
    scorers = [scorer(each, metric) for each in answers]
    if None in scorers:
        return _one_by_one(answers, metric, min(resamples, FEW))
    return np.concatenate(
        [
            np.stack([score(counts) for score in scorers if score], axis=1)
            for counts in _counted(len(answers[0].ids), resamples)
        ]
    )


def alike(answers: Sequence[Evidence]) -> bool:
    """Tell whether runs answered the same examples in the same order, so that a draw is the same for all."""
    first, *others = answers
    return all(list(first.ids) == list(each.ids) and first.labels.equal(each.labels) for each in others)


def draws(examples: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Draw as many rows as a split has, with replacement, again and again."""
    random = np.random.default_rng([SEED, examples])
    for _ in range(resamples):
        yield random.integers(examples, size=examples)


def _counted(examples: int, resamples: int) -> Iterator[Floats]:
    """Count how often each example was drawn: `[draws, examples]`, a part of the draws at a time."""
    found, most = draws(examples, resamples), max(COUNTS // examples, 1)
    for start in range(0, resamples, most):
        part = range(start, min(start + most, resamples))
        yield np.stack([np.bincount(next(found), minlength=examples) for _ in part]).astype(float)


def _one_by_one(answers: Sequence[Evidence], metric: str, resamples: int) -> Floats:
    """Ask the objectives for their own scores of the drawn rows."""
    every = map(torch.from_numpy, draws(len(answers[0].ids), resamples))
    return np.array([[_score(each, rows, metric) for each in answers] for rows in every])


def _score(evidence: Evidence, rows: Tensor, metric: str) -> float:
    output, labels = evidence.output[rows], evidence.labels[rows]
    if metric == "loss" and not isinstance(evidence.objective, MaskedWords):  # which are summed up already
        return float(evidence.objective.loss(output, labels))  # without the other scores, which take far longer
    if metric in CALIBRATION:
        return calibration(evidence.objective, output, labels).get(metric, np.nan)
    return evidence.objective.metrics(output, labels).get(metric, np.nan)
