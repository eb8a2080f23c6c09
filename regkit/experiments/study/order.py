"""Order: which run of an ablation is next, by where its runs stand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from regkit.experiments.plan import Cell
from regkit.experiments.study.results import cell_of
from regkit.experiments.study.study import ERROR, ROUND, Study, is_complete, is_running


@dataclass
class Cells:
    """Where the cells of an ablation stand, by the trials of the study."""

    scores: dict[str, dict[int, float]] = field(default_factory=dict)  # by row and seed
    seconds: dict[str, list[float]] = field(default_factory=dict)  # by row, of whole runs: with scoring and start-up
    running: dict[Cell, Any] = field(default_factory=dict)  # the trials whose workers are not dead
    failed: set[Cell] = field(default_factory=set)  # in this round

    @classmethod
    def of(cls, study: Study, trials: Sequence[Any], round_: int) -> "Cells":
        """Sort the trials of a study."""
        found = cls()
        for trial in trials:
            cell = cell_of(trial)
            if cell is None:
                continue
            if is_complete(trial):
                found.scores.setdefault(cell.row, {})[cell.seed] = trial.value
                found.seconds.setdefault(cell.row, []).append(trial.duration.total_seconds())
            elif is_running(trial) and study.verdict(trial) != "dead":
                found.running[cell] = trial
            elif ERROR in trial.user_attrs and trial.user_attrs.get(ROUND) == round_:
                found.failed.add(cell)
        return found

    @property
    def mean_seconds(self) -> dict[str, float]:
        """The mean time of a run, by row."""
        return {row: sum(each) / len(each) for row, each in self.seconds.items()}


Order = Callable[[Cells], Cell | None]  # None where nothing is left; what runs or has failed is not to be had


def in_order(cells: Sequence[Cell]) -> Order:
    """Choose the first cell that is neither done nor running and has not failed."""

    def choose(found: Cells) -> Cell | None:
        taken = {*found.running, *found.failed}
        left = (cell for cell in cells if cell.seed not in found.scores.get(cell.row, {}) and cell not in taken)
        return next(left, None)

    return choose
