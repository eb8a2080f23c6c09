"""Progress: choose the next run of a search.

The default is first, then proposals, then fresh seeds for what has won.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isfinite
from statistics import fmean
from typing import Any

from regkit.experiments.plan import Cell, Choice
from regkit.experiments.rows import Row
from regkit.experiments.search.dimension import Space, point
from regkit.experiments.search.samplers import Tried, propose
from regkit.experiments.search.search import BASELINE, Search
from regkit.experiments.search.trials import DEFAULT, Trial, Trials
from regkit.experiments.study.results import cell_of
from regkit.experiments.study.study import CHANGES, ERROR, ROUND, Study, is_complete, is_running
from regkit.tasks.scores import SCORES

Key = tuple[int, int]  # a run: the number of its trial, and its seed
WORSE_IF_MORE = {name for kind in SCORES.values() for name, metric in kind.items() if metric.lower_is_better}


@dataclass(frozen=True)
class Progress:
    """Where a search stands, by what is in its study."""

    search: Search
    trials: Trials
    scores: Mapping[Key, float]  # with the seeds of the search and with fresh ones
    running: Collection[Key]  # what workers have
    failed: Collection[Key]

    @classmethod
    def of(cls, search: Search, study: Study, trials: Sequence[Any], round_: int = 0) -> "Progress":
        """Read where a search stands off the trials of its study.

        A run that failed in an earlier round is to be tried again.
        """
        noted = [(key, trial) for trial in trials if (key := _key(trial))]
        done = {key: score_of(trial.user_attrs, search.settings.monitor) for key, trial in noted if is_complete(trial)}
        scores = {key: score for key, score in done.items() if isfinite(score)}
        failed = dict.fromkeys(done.keys() - scores.keys(), "its score is not finite")
        failed |= {
            key: trial.user_attrs[ERROR]
            for key, trial in noted
            if ERROR in trial.user_attrs and trial.user_attrs.get(ROUND) == round_
        }
        running = {key for key, trial in noted if is_running(trial) and study.verdict(trial) != "dead"}
        spent = {key: trial.user_attrs.get("seconds", 0.0) for key, trial in noted if is_complete(trial)}
        found = [
            Trial(
                number,
                values,
                {seed: scores[number, seed] for seed in search.seeds if (number, seed) in scores},
                next((failed[number, seed] for seed in search.seeds if (number, seed) in failed), ""),
                sum(seconds for (other, _), seconds in spent.items() if other == number),
            )
            for number, values in _points(search, noted).items()
        ]
        return cls(search, Trials(found, search.seeds), scores, running, set(failed))

    def fresh(self, trial: Trial) -> dict[int, float]:
        """List a trial's scores with fresh seeds, which chose nothing."""
        return {
            seed: self.scores[trial.number, seed] for seed in self.search.fresh if (trial.number, seed) in self.scores
        }

    def next(self) -> tuple[Cell, Row] | None:
        """Choose the next run, and its row; None where there is none, or none yet.

        A trial that was begun and that nobody is at goes first: after a seed it may be known to be worse, so two of its seeds
        run at once only where nothing else is to be done.
        """
        if self.trials.trials[DEFAULT].failed:
            return None
        begun = [(trial, self._left(trial)) for trial in self.trials.trials if self.trials.state(trial) == "unfinished"]
        alone = [(trial, seeds) for trial, seeds in begun if seeds and not self._is_at(trial)]
        if not alone and (new := self._proposal()):
            alone = [(new, list(self.search.seeds))]
        for trial, seeds in [*alone, *((trial, seeds) for trial, seeds in begun if seeds)]:
            return self._cell(trial, seeds[0])
        return self._confirmation() if self.is_searched else None

    @cached_property
    def is_searched(self) -> bool:
        """Whether all trials are over, so that there is a winner."""
        return (
            not any(self.trials.state(trial) == "unfinished" for trial in self.trials.trials) and not self._proposal()
        )

    def choice(self) -> Choice:
        """Choose the next run for a worker. While others run, there may be more to do when they are done."""
        found = self.next()
        cell, row = found or (None, self.search.row(DEFAULT, {}))
        fresh = cell is not None and cell.seed in self.search.fresh
        plan = self.search.plan([row], self.search.fresh if fresh else self.search.seeds)
        first = cell is not None and row.name != BASELINE and cell.seed == self.search.seeds[0]
        said = f"{row.name}: {point(values_of(self.search.space, row.changes))}" if first else ""
        return Choice(plan, cell, later=cell is None and bool(self.running), said=said)

    @property
    def winner(self) -> Trial | None:
        """The best trial of a search that is over; None while it is not, or if nothing beat the default."""
        best = self.trials.best if self.is_searched else None
        return None if best is None or best.number == DEFAULT else best

    @property
    def tried(self) -> list[Tried]:
        """List points and values for a sampler.

        A trial that failed counts as the worst: its surroundings are avoided.
        """
        values = {
            trial.number: self.trials.value(trial)
            for trial in self.trials.trials
            if trial.scores and not trial.failed and self.trials.state(trial) != "unfinished"
        }
        worst = min(values.values(), default=0.0)
        return [(trial.values, worst if trial.failed else values.get(trial.number)) for trial in self.trials.trials]

    def _proposal(self) -> Trial | None:
        """Propose a new trial, if there are to be more, and if the space has more points."""
        number = max(trial.number for trial in self.trials.trials) + 1
        if number >= self.search.extent.trials:
            return None
        seed = random.Random(f"{self.search.settings.seed}/{number}").getrandbits(31)
        point = propose(self.search.space, self.tried, self.search.extent.sampler, seed)
        return None if point is None else Trial(number, point)

    def _confirmation(self) -> tuple[Cell, Row] | None:
        """Choose a run with a fresh seed, of the default or of the winner."""
        if (winner := self.winner) is None:
            return None
        for seed in self.search.fresh:
            for trial in (self.trials.trials[DEFAULT], winner):
                if (trial.number, seed) not in {*self.scores, *self.running, *self.failed}:
                    return self._cell(trial, seed)
        return None

    def _left(self, trial: Trial) -> list[int]:
        at = {seed for number, seed in self.running if number == trial.number}
        return [seed for seed in self.search.seeds if seed not in trial.scores and seed not in at]

    def _is_at(self, trial: Trial) -> bool:
        return any(number == trial.number for number, _ in self.running)

    def _cell(self, trial: Trial, seed: int) -> tuple[Cell, Row]:
        row = self.search.row(trial.number, trial.values)
        return Cell(row.name, seed), row


def _points(search: Search, noted: Sequence[tuple[Key, Any]]) -> dict[int, Mapping[str, Any]]:
    """Read the point of each trial, in order.

    It is that of a run that is done, or runs, or else the first that was announced. So the point of a worker that has
    died stays, and of two that announced one trial at once, it is that of the run.
    """
    found: dict[int, Mapping[str, Any]] = {DEFAULT: search.default}
    for (number, _), trial in sorted(noted, key=lambda each: (not is_complete(each[1]), not is_running(each[1]))):
        if number not in found:
            found[number] = values_of(search.space, trial.user_attrs[CHANGES])
    return dict(sorted(found.items()))


def _key(trial: Any) -> Key | None:
    cell = cell_of(trial)
    return None if cell is None else (number_of(cell.row), cell.seed)


def number_of(row: str) -> int:
    """Read the number of a trial off the name of its row."""
    return DEFAULT if row == BASELINE else int(row.removeprefix("trial-"))


def values_of(space: Space, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Read the values of a trial off what its row changes."""
    found = dict[str, Any]()
    for name in space:
        value: Any = changes if "." not in name else changes["plugins"]
        for part in name.split(".", 2):
            value = value[part]
        found[name] = value
    return found


def score_of(attributes: Mapping[str, Any], monitor: str) -> float:
    """Look up the monitored score of a finished run on dev, higher being better.

    `mean` is that over tasks. One that is not finite, or not there, is negative infinity.
    """
    scores, mains = attributes.get("scores", {}).get("dev", {}), attributes.get("mains", {})
    task, _, metric = monitor.rpartition(".")
    if task in scores and metric in scores[task]:
        found = [-scores[task][metric] if metric in WORSE_IF_MORE else scores[task][metric]]
    else:
        wanted = [(scores[each], *main) for each, main in mains.items() if each in scores]
        found = [-values[metric] if less else values[metric] for values, metric, less in wanted if metric in values]
    return fmean(found) if found and all(map(isfinite, found)) else -inf
