"""Trials: what a search has tried, which of it is clearly worse, and which is best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan, sqrt
from statistics import fmean
from typing import Any, Literal

State = Literal["complete", "pruned", "failed", "unfinished"]

DEFAULT = 0  # the number of the trial of the settings as they are given
FEW = 4  # complete trials from which the noise of a score is not yet estimated
SURE = 2.0  # standard errors by which a trial must be behind to be given up


@dataclass(frozen=True)
class Trial:
    """One point of the space, and its scores with each seed of the search so far; higher is better."""

    number: int
    values: Mapping[str, Any]  # of the options that are searched
    scores: Mapping[int, float] = field(default_factory=dict)  # by seed of the search
    failed: str = ""  # the sentence of a run that failed
    seconds: float = 0.0  # of training, over its runs

    @property
    def mean(self) -> float:
        """The score over its seeds so far; NaN without one."""
        return fmean(self.scores.values()) if self.scores else nan


@dataclass(frozen=True)
class Trials:
    """All trials of a search, which share their seeds.

    With one seed, two trials see the same data and dropout.
    """

    trials: Sequence[Trial]
    seeds: Sequence[int]

    @property
    def complete(self) -> list[Trial]:
        """List the trials that have a score with each seed."""
        return [each for each in self.trials if not each.failed and all(seed in each.scores for seed in self.seeds)]

    @property
    def best(self) -> Trial | None:
        """Find the complete trial with the highest mean, the earliest of equals."""
        return max(self.complete, key=lambda trial: (trial.mean, -trial.number), default=None)

    def state(self, trial: Trial) -> State:
        """Say how far a trial is.

        Pruned is one that needs no more seeds, because it is clearly worse than the best.
        """
        if trial.failed:
            return "failed"
        if all(seed in trial.scores for seed in self.seeds):
            return "complete"
        return "pruned" if trial.number != DEFAULT and self._is_worse(trial) else "unfinished"

    def value(self, trial: Trial) -> float:
        """Estimate what a trial's mean over all seeds is, from those that it has.

        A seed that is easy for the complete trials counts as easy for this one: else a trial with few seeds would seem
        better or worse by its seeds alone.
        """
        effects = self._effects()
        return fmean(score - effects.get(seed, 0.0) for seed, score in trial.scores.items())

    def _is_worse(self, trial: Trial) -> bool:
        """Whether a trial is behind the best by more than chance explains.

        Its differences with the same seeds tell. The noise is pooled over all complete trials, because one trial has
        too few seeds to tell its own.
        """
        best = self.best
        if best is None or not trial.scores or len(self.complete) <= FEW:
            return False
        behind = fmean(best.scores[seed] - score for seed, score in trial.scores.items())
        return behind > SURE * self.noise() * sqrt(2 / len(trial.scores))

    def noise(self) -> float:
        """Estimate the standard deviation of a score that neither its trial nor its seed explains.

        That is the residual of the two-way layout of complete trials and seeds. NaN where there are fewer than two of both.
        """
        effects, rows = self._effects(), self.complete
        freedom = (len(rows) - 1) * (len(self.seeds) - 1)
        squares = [(row.scores[seed] - row.mean - effects[seed]) ** 2 for row in rows for seed in self.seeds]
        return sqrt(sum(squares) / freedom) if freedom > 0 else nan

    def _effects(self) -> dict[int, float]:
        """Estimate how much higher the scores with each seed are than the mean over seeds."""
        rows = self.complete
        return {seed: fmean(row.scores[seed] - row.mean for row in rows) for seed in self.seeds} if rows else {}
