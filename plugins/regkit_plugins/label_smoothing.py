"""Label smoothing: a share of the target is spread over all classes (Szegedy et al., CVPR 2016).

Section 7 of arXiv 1512.00567. A yes-or-no task has two classes: the targets become smoothing / 2 and 1 - smoothing / 2. A score
has nothing to spread, so tasks of regression are refused; name the others with `tasks`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from regkit import Batch, Binary, Classification, PluginError, Task, hookimpl, nearest


@dataclass
class LabelSmoothing:
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target that is spread (epsilon)."""
    tasks: list[str] = field(default_factory=list)
    """The tasks whose targets are smoothed, A,B; none named means all."""

    neutral: ClassVar[Mapping[str, float]] = {"smoothing": 0.0}

    @hookimpl
    def prepare(self, tasks: Sequence[Task]) -> None:
        known = {task.name: task for task in tasks}
        able = [name for name, task in known.items() if isinstance(task.objective, Classification | Binary)]
        for name in self.tasks or known:
            if name not in known:
                raise PluginError(f"'label_smoothing' knows no task '{name}'. {nearest(name, known)}")
            if name not in able:
                remedy = f"Name those it can: label_smoothing:tasks={','.join(able)}" if able else "Leave it out"
                raise PluginError(f"'label_smoothing' cannot smooth the score of task '{name}'. {remedy}.")

    @hookimpl
    def task_loss(self, task: Task, batch: Batch, output: Tensor) -> Tensor | None:
        """None leaves the loss to the default."""
        if batch.labels is None or (self.tasks and task.name not in self.tasks) or not self.smoothing:
            return None
        if isinstance(task.objective, Classification):
            return F.cross_entropy(output.float(), batch.labels, label_smoothing=self.smoothing)
        targets = batch.labels.float() * (1 - self.smoothing) + self.smoothing / 2
        return F.binary_cross_entropy_with_logits(output.float(), targets)
