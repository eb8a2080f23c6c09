"""Label smoothing: spread a share of the target over all classes (Szegedy et al., CVPR 2016).

Section 7 of arXiv 1512.00567. A yes-or-no task has two classes: the targets become smoothing / 2 and 1 - smoothing / 2.
A score has no classes, so regression tasks are refused; name the other tasks with `tasks`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from regkit import Batch, Binary, Classification, MultitaskModel, PluginError, Task, hookimpl, nearest


@dataclass
class LabelSmoothing:
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target that is spread (epsilon)."""
    tasks: list[str] = field(default_factory=list)
    """Tasks whose targets are smoothed, A,B; without names, all."""

    neutral: ClassVar[Mapping[str, float]] = {"smoothing": 0.0}

    @hookimpl
    def prepare(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        able = [task.name for task in tasks if isinstance(task.objective, Classification | Binary)]
        for name in self.tasks:
            if name not in model.heads:
                raise PluginError(f"'label_smoothing' knows no task '{name}'. {nearest(name, model.heads)}")
        for name in (task.name for task in tasks if self._smooths(task)):
            if name not in able:
                remedy = f"Name those it can: label_smoothing:tasks={','.join(able)}" if able else "Leave it out"
                raise PluginError(f"'label_smoothing' cannot smooth the score of task '{name}'. {remedy}.")

    @hookimpl
    def task_loss(self, task: Task, batch: Batch, output: Tensor) -> Tensor:
        """Compute the loss with smoothed targets, or the objective's own for a task that is not smoothed."""
        assert batch.labels is not None
        if not self._smooths(task) or not self.smoothing:
            return task.objective.loss(output, batch.labels)
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        if isinstance(task.objective, Classification):
            return F.cross_entropy(output, batch.labels, label_smoothing=self.smoothing)
        targets = batch.labels.to(output.dtype) * (1 - self.smoothing) + self.smoothing / 2
        return F.binary_cross_entropy_with_logits(output, targets)

    def _smooths(self, task: Task) -> bool:
        return not self.tasks or task.name in self.tasks
