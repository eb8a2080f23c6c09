"""Only one task: train the named task in every update, and only score the others."""

from collections.abc import Sequence
from dataclasses import dataclass

from regkit import PluginError, Task, hookimpl, nearest


@dataclass
class Only:
    task: str
    """Name of the task to train."""

    @hookimpl
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        return self._chosen(tasks).batches

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task]) -> Sequence[Task]:
        return [self._chosen(tasks)]

    def _chosen(self, tasks: Sequence[Task]) -> Task:
        found = {task.name: task for task in tasks}
        if self.task not in found:
            raise PluginError(f"'only' knows no task '{self.task}'. {nearest(self.task, found)}")
        return found[self.task]
