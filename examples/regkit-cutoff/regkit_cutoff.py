"""Token cutoff: keep predictions when some words are erased (Shen et al., 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from regkit import Batch, Predict, Task, hookimpl


@dataclass
class Cutoff:
    weight: float = 1.0
    """How strongly the two predictions are pulled together."""
    share: float = 0.1
    """Share of the tokens that lose their word embedding."""

    @hookimpl
    def extra_losses(
        self, task: Task, batch: Batch, embeddings: Tensor, output: Tensor, predict: Predict
    ) -> Mapping[str, Tensor]:
        erased = batch.noise(embeddings[:, :1], "cutoff", "uniform") < 2 * self.share - 1  # [tokens, 1]
        again = predict(embeddings.masked_fill(erased, 0.0))
        return {"cutoff": self.weight * task.objective.divergence(again, output)}
