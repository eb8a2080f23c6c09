"""SimCSE: let each text find itself, read with other dropout, among the texts of its batch (Gao et al., 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from regkit import Batch, MultitaskModel, NonNegative, Positive, Task, Tuned, hookimpl


@dataclass
class SimCSE:
    weight: Annotated[NonNegative, Tuned(0.01, 1, log=True)] = 0.1
    """Strength of the contrastive term."""
    temperature: Positive = 0.05
    """Divides the cosines: the smaller, the more the nearest texts count."""

    whole_batches: ClassVar[bool] = True

    @hookimpl
    def extra_losses(
        self, model: MultitaskModel, task: Task, batch: Batch, embeddings: Tensor, vectors: Tensor
    ) -> Mapping[str, Tensor]:
        again = model.encode(task, batch, embeddings)  # draws dropout masks of its own
        cosines = normalize(vectors.float(), dim=1) @ normalize(again, dim=1).T  # [texts, texts]
        own = torch.arange(len(cosines), device=cosines.device)
        return {"sim_cse": self.weight * cross_entropy(cosines / self.temperature, own)}
