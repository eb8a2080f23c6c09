"""Class weights: let rare classes count as much as common ones in the loss (King and Zeng, 2001).

Section 4 of *Logistic Regression in Rare Events Data*, with scikit-learn's `balanced` weights: n / (k n_c) for each of k
classes, of n training examples of which n_c are of that class. The loss is the sum of weighted losses over the number of
examples, as in that paper, and not over the sum of the batch's weights, as torch divides. The weights have a mean of 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from torch import Tensor

from regkit import (
    Batch,
    Binary,
    Classification,
    Multilabel,
    MultitaskModel,
    Ordinal,
    PluginError,
    Share,
    Task,
    Tuned,
    balanced,
    check_tasks,
    hookimpl,
)

OfClasses = Binary | Classification | Multilabel | Ordinal


@dataclass
class ClassWeights:
    power: Annotated[Share, Tuned(0, 1)] = 1.0
    """Exponent of the weights, n_c^-power: 1 balances the classes, 0.5 goes half of the way, 0 leaves them."""
    tasks: list[str] = field(default_factory=list)
    """Tasks whose classes are weighed, A,B; without names, all."""
    weighted: dict[str, OfClasses] = field(init=False, repr=False, default_factory=dict)  # objectives, by task

    neutral: ClassVar[Mapping[str, float]] = {"power": 0.0}

    @hookimpl
    def prepare(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        check_tasks("class_weights", self.tasks, tasks, model, lambda task: isinstance(task.objective, OfClasses))
        for task in (task for task in tasks if not self.tasks or task.name in self.tasks):
            if isinstance(task.objective, OfClasses):
                self.weighted[task.name] = self._weigh(task, task.objective)

    def _weigh(self, task: Task, objective: OfClasses) -> OfClasses:
        labels = task.splits["train"].labels if "train" in task.splits else None
        if labels is None:
            raise PluginError(f"'class_weights' finds no training labels of task '{task.name}' to count; leave it out.")
        if objective.weights:
            raise PluginError(
                f"'class_weights' would replace the class weights that task '{task.name}' has already; keep one of the two."
            )
        return balanced(objective, labels, self.power)

    @hookimpl
    def task_loss(self, task: Task, batch: Batch, output: Tensor) -> Tensor:
        """Compute the weighted loss, or the objective's own for a task that is not named."""
        assert batch.labels is not None
        objective = self.weighted.get(task.name, task.objective) if self.power else task.objective
        return objective.loss(output, batch.labels)
