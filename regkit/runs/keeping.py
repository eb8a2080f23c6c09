"""Keeping: decide which checkpoint is the best, when to stop early, and which ones stay on the disk."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from regkit.base.errors import ConfigError, nearest
from regkit.tasks.task import Stage, Task
from regkit.training.evaluation import Scores, mean_score

MEAN = "mean"
CheckpointName = Annotated[str, Field(pattern=r"^[\w-]*$")]  # that of its folder; it leads nowhere else


@dataclass
class Keeping:
    """Judges checkpoints by name. All of it is saved in each of them."""

    stage: str = ""
    value: float = -float("inf")  # of the best checkpoint of the stage
    scores: Scores = field(default_factory=dict)
    best: CheckpointName = ""
    since: int = 0  # evaluations without a better one
    saved: list[tuple[str, str]] = field(default_factory=list)  # the newest, each with the best one of its time

    def judge(self, stage: str, name: str, value: float, scores: Scores) -> bool:
        """Whether this checkpoint is the best of its stage so far; without scores, the newest is."""
        if stage != self.stage:  # scores of another stage are of other tasks
            self.stage, self.value, self.since = stage, -float("inf"), 0
        better = value > self.value or not scores
        self.since = 0 if better else self.since + 1
        if better:
            self.value, self.scores, self.best = value, scores, name
        return better

    def note(self, name: str, keep: int) -> None:
        """Record that a checkpoint is about to be written; only the newest `keep` are remembered."""
        self.saved = [*(each for each in self.saved if each[0] != name), (name, self.best)][-keep:]

    def kept(self) -> set[str]:
        """List the newest checkpoints, and those that were the best when they were written.

        Going back to a checkpoint needs the best one of its time.
        """
        return {name for pair in self.saved for name in pair}


def monitored(monitor: str, stage: Stage, tasks: Sequence[Task], scores: Scores) -> float:
    """Compute the score that decides, higher being better: `mean` over tasks, or `task.metric`.

    ConfigError where there is no such score. A stage without that task goes by the mean.
    """
    task, _, metric = monitor.rpartition(".")
    elsewhere = task in {each.name for each in tasks} - set(stage.tasks)
    if monitor == MEAN or elsewhere:
        return mean_score(scores, tasks)
    if metric not in scores.get(task, {}):
        known = [f"{name}.{metric}" for name, values in scores.items() for metric in values]
        raise ConfigError(f"monitor is '{monitor}', and there is no such score. {nearest(monitor, [MEAN, *known])}")
    return -scores[task][metric] if metric == "loss" else scores[task][metric]
