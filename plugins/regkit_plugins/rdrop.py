"""R-Drop: make two passes with different dropout masks predict the same (Liang et al., NeurIPS 2021).

Section 2.1 of arXiv 2106.14448: the loss becomes (CE1 + CE2) / 2 + weight (KL12 + KL21) / 2, and gradients flow through
both passes. The first pass is the clean one; the term `rdrop second` replaces its loss by the mean of both losses. With
`reduction=sum,weight=0.25` the loss of classes is half of that in the authors' GLUE code, which sums them over a batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from regkit import NonNegative, Predict, Regression, Task, TaskLoss, Tuned, hookimpl


@dataclass
class RDrop:
    weight: Annotated[NonNegative, Tuned(0.1, 10, log=True)] = 1.0
    """Strength of the divergence (alpha); 0 skips the second pass."""
    reduction: Literal["mean", "sum"] = "mean"
    """Of the divergence over a batch; the sum is the mean times the task's batch size. A score has its mean."""

    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0}
    scaled: ClassVar[tuple[str, ...]] = ("rdrop",)  # the second loss counts as much whatever the weight

    @hookimpl
    def extra_losses(
        self, task: Task, embeddings: Tensor, output: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss
    ) -> Mapping[str, Tensor]:
        if not self.weight:
            return {}
        again = predict(embeddings, dropout="fresh")
        apart = task.objective.divergence(again, output)
        return {"rdrop": self.weight * self._examples(task) * apart / 2, "rdrop second": (task_loss(again) - loss) / 2}

    @property
    def cost(self) -> float:
        """Operations of a step, in those of a plain one: it has one more pass, forward and backward."""
        return 2.0 if self.weight else 1.0

    def _examples(self, task: Task) -> int:
        """Count the examples that the divergence is summed over: the task's batch, not a micro-batch."""
        return task.batch_size if self.reduction == "sum" and not isinstance(task.objective, Regression) else 1
