"""Only one task: every update is of the named task, and the others are scored but not trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from regkit import PluginError, Task, hookimpl, nearest


@dataclass
class Only:
    task: str
    """Name of the task to train."""

    @hookimpl
    def prepare(self, tasks: Sequence[Task]) -> None:
        names = [task.name for task in tasks]
        if self.task not in names:
            raise PluginError(f"'only' knows no task '{self.task}'. {nearest(self.task, names)}")

    @hookimpl
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        return self._chosen(tasks).batches

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task]) -> Sequence[Task]:
        return [self._chosen(tasks)]

    def _chosen(self, tasks: Sequence[Task]) -> Task:
        return next(task for task in tasks if task.name == self.task)
