"""Race: which row beats plain training, found seed by seed in as few runs as it takes.

After each seed every row is compared with every plain control. A row that is worse than one of them, or is not going to be
better, is dropped, and the time goes to what is undecided. A row is recommended if it beats every control: each comparison
has the whole level of the row, so several controls cost nothing (Berger, 1982). The rows share the level (Bonferroni), and
repeated looks are paid for in the intervals (`looks`). They are over seeds alone, and say nothing of other examples.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, isfinite
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from regkit.experiments.statistics.looks import boundaries
from regkit.experiments.statistics.standing import Standing, compare, reason
from regkit.experiments.tables.formats.cells import decimals_for, number, times

FAILURES = 2  # seeds that fail, with none that ends, after which a row is dropped
ADVISED = 1000  # more seeds than this are not advised
REACHED = 0.84  # standard errors beyond the boundary at which 80 % of means cross it

Cell = tuple[str, int]  # row and seed
Scores = Mapping[str, Mapping[int, float]]  # by row and seed; more is better


@dataclass(frozen=True)
class Verdict:
    """What a race came to."""

    kind: Literal["use", "nothing", "undecided"]
    row: str = ""  # that is recommended, or is the nearest to it
    control: str = ""  # the best one
    standing: Standing | None = None  # of the row against the control
    ratio: float | None = None  # of their times
    more: int | None = None  # seeds that would decide, if it is undecided and can be said
    dropped: Mapping[str, str] = field(default_factory=dict)  # why, by row

    def __str__(self) -> str:
        """Say it in one sentence."""
        if self.kind == "use" and self.standing:
            mean, low, high = self.standing.mean, self.standing.low, self.standing.high
            decimals = decimals_for(mean, (high - low) / 2)
            change = f"{number(mean, decimals, signed=True)} [{number(low, decimals)}, {number(high, decimals)}]"
            time = f", {times(self.ratio).removesuffix('x')} times the time" if self.ratio else ""
            return f"use '{self.row}': {change} over '{self.control}'{time}."
        if self.kind == "nothing":
            return f"nothing here beats '{self.control}'; more seeds would not change that."
        if self.more:
            return f"undecided: about {self.more} more seeds would tell whether '{self.row}' beats '{self.control}'."
        return "undecided: too little has been seen to say how many more seeds would tell."


@dataclass(frozen=True)
class Race:
    """The rules of a race, which keeps no state.

    What is to be run and what is decided follow from the scores.
    """

    rows: Sequence[str]
    controls: Sequence[str]  # plain rows, all of which a row has to beat
    max_seeds: int = 20
    alpha: float = 0.05  # chance of a recommendation where no row is better than the best control, at most
    first: int = 0  # the lowest seed; others follow it

    @property
    def seeds(self) -> range:
        """The seeds that a row may have."""
        return range(self.first, self.first + self.max_seeds)

    @property
    def _boundary(self) -> NDArray[np.float64]:
        """The boundary of each comparison, by number of pairs.

        The rows share the level, and the controls do not.
        """
        return boundaries(self.max_seeds, self.alpha / len(self.rows))

    def next(
        self,
        scores: Scores,
        seconds: Mapping[str, float],
        running: Collection[Cell] = (),
        failed: Collection[Cell] = (),
    ) -> Cell | None:
        """Choose the next run; None if none would change the verdict, or all that would are running.

        `seconds` has the time of a run by row; a row without one counts as cheap. Lower seeds come first, and of one seed the
        cheapest row. A cell that failed is not run again.
        """
        undecided = self._undecided(scores, failed)
        for seed in self.seeds:
            wanted = {
                name
                for row, control in undecided
                if not {(row, seed), (control, seed)} & set(failed)
                for name in (row, control)
                if seed not in scores.get(name, {}) and (name, seed) not in running
            }
            if wanted:
                order = [*self.controls, *self.rows]
                return min(wanted, key=lambda name: (seconds.get(name, 0.0), order.index(name))), seed
        return None

    def verdict(self, scores: Scores, seconds: Mapping[str, float], failed: Collection[Cell] = ()) -> Verdict:
        """Say what the scores tell so far; at any time, as often as anyone likes."""
        standings = self.standings(scores, failed)
        dead = [name for name in (*self.controls, *self.rows) if _is_dead(name, scores, failed)]
        dropped = {row: why for row, found in standings.items() if (why := reason(found))}
        dropped |= dict.fromkeys(dead, "all of its runs failed")
        best = self._best_control(scores)
        hardest = {
            row: min(found, key=lambda control: found[control].mean) for row, found in standings.items() if found
        }

        def verdict(kind: Literal["use", "undecided"], row: str) -> Verdict:
            control = hardest[row]
            standing = standings[row][control]
            more = self._more(standing) if kind == "undecided" else None
            return Verdict(kind, row, control, standing, _ratio(seconds, row, control), more, dropped)

        if winner := self._winner(standings):
            return verdict("use", winner)
        undecided = [row for row in standings if row not in dropped and hardest.get(row)]
        if undecided:
            return verdict("undecided", max(undecided, key=lambda row: standings[row][hardest[row]].mean))
        return Verdict("nothing" if best and any(standings.values()) else "undecided", control=best, dropped=dropped)

    def standings(self, scores: Scores, failed: Collection[Cell] = ()) -> dict[str, dict[str, Standing]]:
        """Compare each row with each control, by row and control; those whose every run failed are left out."""
        controls = [control for control in self.controls if not _is_dead(control, scores, failed)]
        rows = [row for row in self.rows if not _is_dead(row, scores, failed)]
        return {
            row: {
                control: compare(self._differences(row, control, scores, failed), self._boundary)
                for control in controls
            }
            for row in rows
        }

    def _differences(self, row: str, control: str, scores: Scores, failed: Collection[Cell]) -> list[float]:
        """Subtract the control's score for each seed up to the first that is not there yet.

        So a look is at the same seeds, in whatever order runs end, and their number is that of the looks. Seeds whose run
        failed, or whose score is not finite, are passed over.
        """
        found = []
        for seed in self.seeds:
            if (row, seed) in failed or (control, seed) in failed:
                continue
            if seed not in scores.get(row, {}) or seed not in scores.get(control, {}):
                break
            found.append(scores[row][seed] - scores[control][seed])
        return [difference for difference in found if isfinite(difference)]

    def _undecided(self, scores: Scores, failed: Collection[Cell]) -> list[tuple[str, str]]:
        """List the comparisons on which the verdict still depends.

        Once a row is to be recommended, only one that has done better so far could take its place.
        """
        standings = self.standings(scores, failed)
        winner = self._winner(standings)
        ahead = [
            row
            for row, found in standings.items()
            if not reason(found) and (not winner or _lead(scores, row, winner) > 0)
        ]
        return [(row, control) for row in ahead for control, found in standings[row].items() if found.state == "open"]

    def _winner(self, standings: Mapping[str, Mapping[str, Standing]]) -> str:
        """Find the row that beats every control by most; none is an empty name."""
        won = [
            row for row, found in standings.items() if found and all(each.state == "better" for each in found.values())
        ]
        return max(won, key=lambda row: min(each.mean for each in standings[row].values()), default="")

    def _best_control(self, scores: Scores) -> str:
        known = {control: fmean(values) for control in self.controls if (values := scores.get(control, {}).values())}
        return max(known, key=lambda control: known[control], default="")

    def _more(self, standing: Standing) -> int | None:
        """Estimate how many more seeds would tell the difference seen, by the spread seen."""
        if not standing.mean > 0 or not standing.spread > 0:
            return None
        needed = ceil(((self._boundary[self.max_seeds] + REACHED) * standing.spread / standing.mean) ** 2)
        return max(needed - standing.pairs, 1) if needed <= ADVISED else None


def _is_dead(name: str, scores: Scores, failed: Collection[Cell]) -> bool:
    """Tell whether a row failed for several seeds and ended for none."""
    return not scores.get(name) and sum(row == name for row, _ in failed) >= FAILURES


def _lead(scores: Scores, row: str, other: str) -> float:
    """Compute how far a row is above another over the seeds that both have.

    It is infinite where there are none.
    """
    both = scores.get(row, {}).keys() & scores.get(other, {}).keys()
    return fmean(scores[row][seed] - scores[other][seed] for seed in both) if both else inf


def _ratio(seconds: Mapping[str, float], row: str, control: str) -> float | None:
    return seconds[row] / seconds[control] if row in seconds and seconds.get(control, 0) > 0 else None
