"""Binary: yes or no."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from regkit.tasks.batch import Batch
from regkit.tasks.objectives.labels import whole
from regkit.tasks.objectives.numbers import same_shape, wide
from regkit.tasks.objectives.objective import LOSS, Metric, Scores, differ


@dataclass(frozen=True)
class Binary:
    """Yes or no, labelled 1 or 0; the output is the logit of yes, `[examples]`."""

    kind: ClassVar[str] = "binary"
    scores: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric(),
        "f1": Metric(),
        "auc": Metric(needs_contrast=True),
        "loss": LOSS,
    }
    metric: ClassVar[str] = "accuracy"
    label_type: ClassVar[torch.dtype] = torch.int64
    width: ClassVar[int] = 1

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        same_shape(output, labels)
        return F.binary_cross_entropy_with_logits(wide(output), labels.to(wide(output).dtype))

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        """Compute KL(p, q) + KL(q, p) of two Bernoulli distributions: (p - q)(logit p - logit q)."""
        same_shape(output, other)
        output, other = wide(output), wide(other)
        return ((output.sigmoid() - other.sigmoid()) * (output - other)).mean()

    def prediction(self, output: Tensor) -> Tensor:
        return (output > 0).long()

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        return output

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

        truth, guess = labels.numpy(), self.prediction(evidence).numpy()
        auc = {"auc": float(roc_auc_score(truth, evidence.float().numpy()))} if differ(labels) else {}
        return {
            "accuracy": float(accuracy_score(truth, guess)),
            "f1": float(f1_score(truth, guess, zero_division=0.0)),
            **auc,
            "loss": float(self.loss(evidence, labels)),
        }

    def label(self, text: str) -> float:
        return whole(text, 1)

    def text(self, label: float) -> str:
        return str(int(label))
