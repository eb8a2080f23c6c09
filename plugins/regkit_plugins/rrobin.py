"""Round robin: let the tasks take turns, one update each (the CS224N report that regkit starts from)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from regkit import Count, PluginError, Task, Tuned, hookimpl


@dataclass
class RoundRobin:
    """Train the tasks in turn: `longest` repeats small tasks, `shortest` skips a part of the large ones."""

    stop: Annotated[Literal["longest", "shortest"], Tuned()] = "longest"
    """Task that ends the epoch, once all its examples were seen."""
    per_step: Count = 1
    """Number of tasks that share an update."""

    @hookimpl
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        if self.per_step > len(tasks):
            raise PluginError(f"'rrobin' has per_step={self.per_step}, but the stage has {len(tasks)} tasks.")
        batches = [task.batches for task in tasks]
        turns = len(tasks) * (max(batches) if self.stop == "longest" else min(batches))
        return -(-turns // self.per_step)

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task], step: int) -> Sequence[Task]:
        turns = range(step * self.per_step, (step + 1) * self.per_step)
        return [tasks[turn % len(tasks)] for turn in turns]
