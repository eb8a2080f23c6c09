"""Label smoothing: spread a share of the target over all classes (Szegedy et al., CVPR 2016).

Section 7 of arXiv 1512.00567. A yes-or-no task, and each label of a multilabel one, has two classes: the targets become
smoothing / 2 and 1 - smoothing / 2. Soft labels are mixed with the even distribution. A score has no classes, so regression
tasks are refused; name the other tasks with `tasks`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from regkit import (
    Batch,
    MultitaskModel,
    Smoothable,
    Task,
    Tuned,
    check_tasks,
    hookimpl,
)


@dataclass
class LabelSmoothing:
    smoothing: Annotated[float, Field(ge=0, lt=1), Tuned(0, 0.3)] = 0.1
    """Share of the target that is spread (epsilon)."""
    tasks: list[str] = field(default_factory=list)
    """Tasks whose targets are smoothed, A,B; without names, all."""

    neutral: ClassVar[Mapping[str, float]] = {"smoothing": 0.0}

    @hookimpl
    def prepare(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        check_tasks("label_smoothing", self.tasks, tasks, model, lambda task: isinstance(task.objective, Smoothable))

    @hookimpl
    def task_loss(self, task: Task, batch: Batch, output: Tensor) -> Tensor:
        """Compute the loss with smoothed targets, or the objective's own for a task that is not smoothed."""
        assert batch.labels is not None
        if not (self.smoothing and self._smooths(task) and isinstance(task.objective, Smoothable)):
            return task.objective.loss(output, batch.labels)
        return task.objective.loss(output, task.objective.smoothed(batch.labels, self.smoothing))

    def _smooths(self, task: Task) -> bool:
        return not self.tasks or task.name in self.tasks
