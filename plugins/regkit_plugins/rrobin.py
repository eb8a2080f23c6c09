"""Round robin: the tasks take turns, one update each (the CS224N report that regkit starts from)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from regkit import Task, hookimpl


@dataclass
class RoundRobin:
    """Which examples are seen: `longest` repeats the small tasks, `shortest` leaves out a part of the large ones."""

    stop: Literal["longest", "shortest"] = "longest"
    """The epoch ends when this task has been seen once."""

    @hookimpl
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        batches = [task.batches for task in tasks]
        return len(tasks) * (max(batches) if self.stop == "longest" else min(batches))

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task], step: int) -> Sequence[Task]:
        return [tasks[step % len(tasks)]]
