"""Results: what one cell of a study came to - a row's run with one seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from regkit.experiments.plan import Cell, Plan
from regkit.experiments.study.study import ERROR, Study, is_complete, is_running

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]  # by split, or `dev under typos`; by task and metric
Mains = Mapping[str, tuple[str, bool]]  # by task: deciding metric, less is better


@dataclass(frozen=True)
class Result:
    """What is known of one run, finished or not."""

    row: str
    seed: int
    state: Literal["finished", "failed", "running", "waiting"]
    scores: Scores = field(default_factory=dict)
    mains: Mains = field(default_factory=dict)
    seconds: float = nan  # of training
    operations: float = nan  # of a step, over those of a plain one
    memory: float = nan  # bytes, at the peak
    drop: float = nan  # from the best evaluation to the last
    effects: Sequence[str] = ()  # lines of the effect meter
    error: str = ""  # the sentence of a run that failed
    folder: Path | None = None  # of the run, if its study knows one

    @property
    def value(self) -> float:
        """What decides: see `deciding`."""
        return deciding(self.scores, self.mains)


def deciding(scores: Scores, mains: Mains) -> float:
    """Average the tasks' deciding scores on dev, higher being better.

    It is 0 where there is none, or one is not finite.
    """
    found = average(scores.get("dev", {}), mains)
    return found if isfinite(found) else 0.0


def average(scores: Mapping[str, Mapping[str, float]], mains: Mains) -> float:
    """Average the tasks' deciding scores of one split, higher being better; NaN where there is none."""
    known = [(scores[task][metric], less) for task, (metric, less) in mains.items() if metric in scores.get(task, {})]
    found = [-value if less else value for value, less in known]
    return mean(found) if found else nan


def read_results(study: Study, plan: Plan) -> list[Result]:
    """Read what is known of each cell of an ablation, in the order of its cells. Raises RunError."""
    trials: dict[Cell, list[Any]] = {cell: [] for cell in plan.cells()}
    for trial in study.trials():
        cell = cell_of(trial)
        if cell in trials:
            trials[cell].append(trial)
    return [_result(cell, found, study) for cell, found in trials.items()]


def cell_of(trial: Any) -> Cell | None:
    """Read which cell a trial is of; None for one of another kind."""
    row, seed = trial.user_attrs.get("row"), trial.user_attrs.get("seed")
    return Cell(row, seed) if isinstance(row, str) and isinstance(seed, int) else None


def _result(cell: Cell, trials: Sequence[Any], study: Study) -> Result:
    """Sum up the trials of a cell.

    What counts is the one that is complete, or that runs, or else the last that has failed by itself.
    """
    for trial in trials:
        if is_complete(trial):
            return _finished(cell, trial.user_attrs, study.run_folder(trial))
    for trial in trials:
        if is_running(trial) and study.verdict(trial) != "dead":
            return Result(*cell, "running", folder=study.run_folder(trial))
    for trial in reversed(trials):
        if ERROR in trial.user_attrs:
            return Result(*cell, "failed", error=trial.user_attrs[ERROR], folder=study.run_folder(trial))
    return Result(*cell, "waiting")


def _finished(cell: Cell, attributes: Mapping[str, Any], folder: Path | None) -> Result:
    mains = {task: (str(metric), bool(less)) for task, (metric, less) in attributes.get("mains", {}).items()}
    known = {name: attributes[name] for name in ("seconds", "operations", "memory", "drop") if name in attributes}
    return Result(
        *cell,
        "finished",
        attributes.get("scores", {}),
        mains,
        **known,
        effects=list(attributes.get("effects", ())),
        folder=folder,
    )
