"""SupCon: pull together texts of one class, and push apart those of others (Khosla et al., 2020).

The loss L_out of section 3.2 of arXiv 2004.11362, on the vectors that the head reads, as Gunel et al. (ICLR 2021, arXiv
2011.01403, section 2) fine-tune with it: no projection, no second view. It compares the examples of a batch, which is
therefore never cut. An example whose class no other of the batch has adds nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from regkit import (
    Batch,
    Binary,
    Classification,
    MultitaskModel,
    NonNegative,
    Ordinal,
    PluginError,
    Positive,
    Stage,
    Task,
    Tuned,
    check_tasks,
    hookimpl,
)


@dataclass
class SupCon:
    weight: Annotated[NonNegative, Tuned(0.1, 10, log=True)] = 1.0
    """Strength of the term: lambda / (1 - lambda) of Gunel et al."""
    temperature: Annotated[Positive, Tuned(0.05, 1, log=True)] = 0.3
    """Divides the cosines (tau): the smaller, the more the nearest texts count."""
    tasks: list[str] = field(default_factory=list)
    """Tasks whose texts are contrasted, A,B; without names, all."""

    neutral: ClassVar[Mapping[str, float]] = {"weight": 0.0}
    whole_batches: ClassVar[bool] = True

    @hookimpl
    def prepare(self, model: MultitaskModel, stage: Stage, tasks: Sequence[Task]) -> None:
        check_tasks("supcon", self.tasks, tasks, model, _has_one_vector_and_class)
        if self.weight and stage.trainable == "heads":
            raise PluginError(
                "'supcon' moves the vectors of texts, but the encoder is frozen; "
                "leave it out, or what freezes the encoder."
            )

    @hookimpl
    def extra_losses(self, task: Task, batch: Batch, vectors: Tensor) -> Mapping[str, Tensor]:
        if not self.weight or batch.labels is None or (self.tasks and task.name not in self.tasks):
            return {}
        return {"supcon": self.weight * contrast(vectors, batch.labels, self.temperature)}


def _has_one_vector_and_class(task: Task) -> bool:
    return isinstance(task.objective, Binary | Classification | Ordinal) and task.pair_mode != "bi_encoder"


def contrast(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Compute the supervised contrastive loss: a scalar, the mean over examples.

    Vectors are `[examples, width]`, and need not have length 1; labels are `[examples]`.
    """
    vectors = F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1)
    oneself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    alike = (labels[:, None] == labels) & ~oneself
    cosines = (vectors @ vectors.T / temperature).masked_fill(oneself, torch.finfo(vectors.dtype).min)
    log_p = cosines.log_softmax(dim=1)  # that of each example to choose another one
    return -(log_p.masked_fill(~alike, 0).sum(1) / alike.sum(1).clamp(min=1)).mean()
