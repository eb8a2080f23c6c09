"""Outcome: read what a finished run of a study came to, off its folder."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from math import nan
from pathlib import Path
from typing import Any

from regkit.base.files import read_json, read_object
from regkit.experiments.study.results import Mains, Scores, average, deciding
from regkit.runs import evidence
from regkit.runs.evidence import Evidence
from regkit.runs.folders import LOG
from regkit.tasks.names import UNDER
from regkit.training.effects import in_words
from regkit.training.mistakes import calibration

COST, EFFECTS = "cost.json", "effects.json"


@dataclass(frozen=True)
class Outcome:
    """What a finished run came to; its trial has all of it as attributes."""

    scores: Scores = field(default_factory=dict)
    mains: Mains = field(default_factory=dict)
    seconds: float = nan  # of training
    operations: float = nan  # of a step, over those of a plain one
    memory: float = nan  # bytes, at the peak
    drop: float = nan  # from the best evaluation to the last, of the mean of the deciding scores
    effects: Sequence[str] = ()  # lines of the effect meter

    def as_attributes(self) -> dict[str, Any]:
        """Put it into plain values; a number that is not known is left out."""
        return {
            name: value for name, value in asdict(self).items() if not (isinstance(value, float) and value != value)
        }

    @property
    def value(self) -> float:
        """What decides: see `deciding`."""
        return deciding(self.scores, self.mains)


def read_outcome(folder: Path) -> Outcome:
    """Read what a finished run came to, off its folder. Raises RunError if it has no answers."""
    found = evidence.load(folder)
    objectives = {task: each.objective for split in found.values() for task, each in split.items()}
    in_full = {split.partition(UNDER)[0] for split in found if UNDER in split}
    scores = {
        split: {task: _scores(each, split in in_full) for task, each in tasks.items()} for split, tasks in found.items()
    }
    mains: Mains = {task: (each.metric, each.scores[each.metric].lower_is_better) for task, each in objectives.items()}
    cost, effects = read_object(folder / COST), read_object(folder / EFFECTS)
    seconds = cost.get("seconds", nan)  # of a run that another command went on with, nobody has counted them
    lines = in_words(effects) if "warnings" in effects else []
    return Outcome(scores, mains, seconds, nan, cost.get("memory", nan), drop(folder, mains), lines)


def _scores(answered: Evidence, in_full: bool) -> dict[str, float]:
    """Score answers; in full, by how far their probabilities are off as well."""
    objective, output, labels = answered.objective, answered.output, answered.labels
    return {**objective.metrics(output, labels), **(calibration(objective, output, labels) if in_full else {})}


def drop(folder: Path, mains: Mains) -> float:
    """Compute how far a run's last evaluation is below its best, by the mean of the deciding scores.

    NaN where the folder does not tell.
    """
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        lines = map(json.loads, (folder / LOG).read_text(encoding="utf8").splitlines())
        evaluations = [line["scores"]["dev"] for line in lines if line.get("scores")]
        return average(read_json(folder / "scores.json")["dev"], mains) - average(evaluations[-1], mains)
    return nan
