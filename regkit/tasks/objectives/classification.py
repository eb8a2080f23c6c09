"""Classification: one of several classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from regkit.tasks.batch import Batch
from regkit.tasks.objectives.labels import whole
from regkit.tasks.objectives.numbers import kl_both_ways, wide
from regkit.tasks.objectives.objective import LOSS, Metric, Scores


@dataclass(frozen=True)
class Classification:
    """One of several classes, labelled 0 to classes - 1 or by name.

    The output is logits, `[examples, classes]`.
    """

    classes: int
    names: tuple[str, ...] = ()
    kind: ClassVar[str] = "classification"
    scores: ClassVar[Mapping[str, Metric]] = {"accuracy": Metric(), "macro_f1": Metric(), "loss": LOSS}
    metric: ClassVar[str] = "accuracy"
    label_type: ClassVar[torch.dtype] = torch.int64

    @property
    def width(self) -> int:
        return self.classes

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(wide(output), labels)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        return kl_both_ways(output, other).sum(-1).mean()

    def prediction(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        return output

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        from sklearn.metrics import accuracy_score, f1_score

        truth, guess = labels.numpy(), self.prediction(evidence).numpy()
        return {
            "accuracy": float(accuracy_score(truth, guess)),
            "macro_f1": float(f1_score(truth, guess, average="macro", zero_division=0.0)),
            "loss": float(self.loss(evidence, labels)),
        }

    def label(self, text: str) -> float:
        if not self.names:
            return whole(text, self.classes - 1)
        if text not in self.names:
            raise ValueError(f"one of {', '.join(self.names)}")
        return self.names.index(text)

    def text(self, label: float) -> str:
        return self.names[int(label)] if self.names else str(int(label))
