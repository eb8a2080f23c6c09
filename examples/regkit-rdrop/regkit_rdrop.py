"""R-Drop: two dropout masks, one prediction - a stranger's regularizer for regkit (Liang et al., NeurIPS 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from regkit import Predict, Task, hookimpl


@dataclass
class RDrop:
    weight: float = 1.0
    """How strongly the two predictions are pulled together; half of the paper's alpha, see the README."""

    @hookimpl
    def extra_losses(self, task: Task, embeddings: Tensor, output: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        again = predict(embeddings, dropout="fresh")
        return {"rdrop": self.weight * task.objective.divergence(again, output)}
