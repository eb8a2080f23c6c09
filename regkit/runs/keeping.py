"""Keeping: decide which checkpoint is the best, when to stop early, and which ones stay on the disk."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from regkit.base.errors import ConfigError, nearest
from regkit.tasks.objectives import defined
from regkit.tasks.task import Stage, Task, scorable
from regkit.training.caveats import report
from regkit.training.evaluation import Scores, higher_is_better, mean_score

MEAN = "mean"
CheckpointName = Annotated[str, Field(pattern=r"^[\w-]*$")]  # that of its folder; it leads nowhere else


@dataclass
class Keeping:
    """Judges checkpoints by name. All of it is saved in each of them."""

    stage: str = ""
    value: float = -float("inf")  # of the best checkpoint of the stage
    scores: Scores = field(default_factory=dict)
    caveats: list[str] = field(default_factory=list)  # what these scores do not show
    best: CheckpointName = ""
    since: int = 0  # evaluations without a better one
    saved: list[tuple[str, str]] = field(default_factory=list)  # the newest, each with the best one of its time

    def judge(self, stage: str, name: str, value: float, scores: Scores, caveats: Iterable[str] = ()) -> bool:
        """Whether this checkpoint is the best of its stage so far; without scores, the newest is.

        Equal is not better, so the earlier one stays. A value that is not finite is not better than any.
        """
        first = stage != self.stage  # scores of another stage are of other tasks
        value = value if math.isfinite(value) else -math.inf
        better = first or value > self.value or not scores
        self.stage, self.since = stage, 0 if better else self.since + 1
        if better:
            self.value, self.scores, self.caveats, self.best = value, scores, list(caveats), name
        return better

    def report(self) -> dict[str, Any]:
        """Say how the best checkpoint scored, as scores.json has it."""
        return report("dev", self.scores, self.caveats)

    def note(self, name: str, keep: int) -> None:
        """Record that a checkpoint is about to be written; only the newest `keep` are remembered."""
        self.saved = [*(each for each in self.saved if each[0] != name), (name, self.best)][-keep:]

    def kept(self) -> set[str]:
        """List the newest checkpoints, and those that were the best when they were written.

        Going back to a checkpoint needs the best one of its time.
        """
        return {name for pair in self.saved for name in pair}


def check_monitor(monitor: str, tasks: Iterable[Task]) -> None:
    """Check that the score that shall decide is one of these tasks'.

    Raises ConfigError, which names the nearest.
    """
    scored = list(scorable(tasks, "dev"))
    known = [MEAN, *(f"{task.name}.{name}" for task, labels in scored for name in defined(task.objective, labels))]
    if monitor in known:
        return
    undefined = monitor in [f"{task.name}.{name}" for task, _ in scored for name in task.objective.scores]
    reason = "which needs dev labels that differ" if undefined else "and there is no such score"
    raise ConfigError(f"monitor is '{monitor}', {reason}. {nearest(monitor, known)}")


def monitored(monitor: str, stage: Stage, tasks: Sequence[Task], scores: Scores) -> float:
    """Compute the score that decides, higher being better: `mean` over tasks, or `task.metric`.

    A stage without that task goes by the mean.
    """
    name, _, metric = monitor.rpartition(".")
    if name not in stage.tasks:
        return mean_score(scores, tasks)
    objective = next(task.objective for task in tasks if task.name == name)
    return higher_is_better(objective, metric, scores[name])
