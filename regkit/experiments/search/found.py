"""Found: what a search came to - its winner, and by how much that beats the default with fresh seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isnan
from statistics import fmean
from typing import Any

from regkit.experiments.search.dimension import point
from regkit.experiments.search.progress import Progress
from regkit.experiments.search.samplers import importance
from regkit.experiments.search.search import Search
from regkit.experiments.search.trials import DEFAULT, Trial
from regkit.experiments.statistics.paired import estimate, sign_flip
from regkit.runs.settings import Settings


@dataclass(frozen=True)
class Gain:
    """How much the winner is above the default, with the same fresh seeds."""

    mean: float
    low: float  # ends of the interval over seeds; NaN where one seed is all there is
    high: float
    p: float  # of the sign-flip test, two-sided
    pairs: int

    @classmethod
    def of(cls, winner: Mapping[int, float], default: Mapping[int, float]) -> "Gain | None":
        """Compare scores by seed; None where no seed is in both."""
        differences = [score - default[seed] for seed, score in winner.items() if seed in default]
        if not differences:
            return None
        found = estimate(differences)
        return cls(found.mean, *found.interval(), sign_flip(differences), len(differences))

    def __str__(self) -> str:
        """Write it as a table does: `+0.0120 [+0.0040, +0.0200]`."""
        interval = "" if isnan(self.low) else f" [{self.low:+.4f}, {self.high:+.4f}]"
        return f"{self.mean:+.4f}{interval}"

    @property
    def told(self) -> bool:
        """Whether it can be told from nothing: the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Found:
    """What a search came to, as far as it is."""

    progress: Progress

    @property
    def search(self) -> Search:
        """What it was asked to do."""
        return self.progress.search

    @property
    def default(self) -> Trial:
        """The trial of the settings as they were given."""
        return self.progress.trials.trials[DEFAULT]

    @cached_property
    def gain(self) -> Gain | None:
        """Compare the winner with the default on fresh seeds; None before there is something to compare."""
        if (winner := self.progress.winner) is None:
            return None
        return Gain.of(self.progress.fresh(winner), self.progress.fresh(self.default))

    @property
    def chosen(self) -> Trial:
        """The trial to use: the winner, unless the default is better with fresh seeds."""
        winner = self.progress.winner
        return self.default if winner is None or (self.gain and self.gain.mean <= 0) else winner

    def settings(self) -> Settings:
        """Build the settings of the trial to use."""
        return self.search.row(self.chosen.number, self.chosen.values).apply(self.search.settings)

    def toml(self, study: str) -> str:
        """Write a config of the trial to use, with a comment that says where it comes from."""
        lines = [f"found by `regkit tune`, study {study}", *self.conclusion()]
        return "".join(f"# {line}\n" for line in lines) + "\n" + self.settings().toml()

    def as_json(self) -> dict[str, Any]:
        """Put all trials, what mattered, the winner and the default into plain values."""
        trials = self.progress.trials
        shown = [
            {
                "number": trial.number,
                "state": trials.state(trial),
                "value": trials.value(trial) if trial.scores else None,
                "params": dict(trial.values),
                "seconds": trial.seconds,
                "error": trial.failed or None,
            }
            for trial in trials.trials
        ]
        done = [(point, value) for point, value in self.progress.tried if value is not None]
        best = self._shown(self.progress.trials.best or self.default)
        if self.gain:
            gain = {name: None if isnan(value) else value for name, value in asdict(self.gain).items()}
            best |= {"difference": gain}
        return {
            "trials": shown,
            "logarithmic": [name for name, each in self.search.space.items() if each.range.log],
            "importance": importance(self.search.space, done),
            "best": best,
            "default": self._shown(self.default),
        }

    def _shown(self, trial: Trial) -> dict[str, Any]:
        fresh = list(self.progress.fresh(trial).values())
        return {
            "number": trial.number,
            "value": trial.mean if trial.scores else None,
            "params": dict(trial.values),
            "fresh": fmean(fresh) if fresh else None,  # the mean with fresh seeds, which chose nothing
        }

    def summary(self) -> list[str]:
        """Say how many trials there were, and what mattered."""
        states = [self.progress.trials.state(trial) for trial in self.progress.trials.trials]
        counts = [f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed", "unfinished")]
        lines = [f"trials: {', '.join(each for each in counts if not each.startswith('0 '))}"]
        lines += [
            f"trial {trial.number} failed: {trial.failed}" for trial in self.progress.trials.trials if trial.failed
        ]
        if shares := self.as_json()["importance"]:
            ordered = sorted(shares.items(), key=lambda each: -each[1])
            lines.append("what mattered: " + ", ".join(f"{name} {share:.0%}" for name, share in ordered))
        return lines

    def conclusion(self) -> list[str]:
        """Say what won, and by how much with fresh seeds; never the score that it was chosen by alone."""
        if self.default.failed:
            return [f"the default settings fail, so that there is nothing to compare with: {self.default.failed}"]
        if not self.progress.is_searched:
            return ["the search is not over yet"]
        if (winner := self.progress.winner) is None:
            return [f"nothing beat the default in {len(self.progress.trials.trials)} trials; use it"]
        seeds = len(self.search.seeds)
        return [
            f"trial {winner.number} won: {point(winner.values)}",
            f"with the {'seed' if seeds == 1 else f'{seeds} seeds'} of the search, which is too good because it was chosen "
            f"by them: {winner.mean:.4f}, the default {self.default.mean:.4f}",
            *self._confirmed(winner),
            *(["the config is that of the default, which did no worse"] if self.chosen is self.default else []),
        ]

    def _confirmed(self, winner: Trial) -> Sequence[str]:
        if self.gain is None:
            return ["with fresh seeds nothing was run, so nothing can be told of what it gains"]
        own, other = (fmean(self.progress.fresh(trial).values()) for trial in (winner, self.default))
        pairs = f"{self.gain.pairs} fresh seeds" if self.gain.pairs > 1 else "one fresh seed"
        said = f"with {pairs}: {own:.4f}, the default {other:.4f}: {self.gain}"
        if self.gain.pairs < 2:
            return [f"{said}; from one seed nothing can be told"]
        advice = "use it" if self.gain.told and self.gain.mean > 0 else "this cannot be told from nothing"
        if self.gain.told and self.gain.mean < 0:
            advice = "the default is better"
        return [f"{said} over seeds, p = {self.gain.p:.2g}: {advice}"]
