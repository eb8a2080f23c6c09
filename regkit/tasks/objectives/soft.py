"""Soft labels: a distribution over classes for each example, such as the shares of annotators' votes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from regkit.tasks import labels as texts
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import numbers
from regkit.tasks.objectives.checks import check_classes, check_metric
from regkit.tasks.objectives.objective import Scores
from regkit.tasks.scores import SCORES, Metric

OFF = 1e-3  # from 1, at most, is the sum of shares that were rounded


@dataclass(frozen=True)
class SoftLabels:
    """A distribution over classes, labelled by a share for each.

    The output is logits, `[examples, classes]`, and labels are distributions of that shape. The loss is the cross-entropy
    with the distribution, which is least where the prediction equals it.
    """

    classes: int
    names: tuple[str, ...] = ()
    metric: str = field(default="accuracy", repr=False)
    kind: ClassVar[str] = "soft"
    scores: ClassVar[Mapping[str, Metric]] = SCORES[kind]
    label_type: ClassVar[torch.dtype] = torch.float32

    def __post_init__(self) -> None:
        check_classes(self.kind, self.classes, self.names, ())
        check_metric(self.kind, self.metric)

    @property
    def width(self) -> int:
        return self.classes

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        return numbers.cross_entropy(output, labels)

    def smoothed(self, labels: Tensor, share: float) -> Tensor:
        """Spread a share of each distribution over all classes: labels for `loss`, `[examples, classes]`."""
        return numbers.smoothed(labels, share, self.classes)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        return numbers.kl_both_ways(output, other).sum(-1).mean()

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Compute the log-probability of each class, `[examples, classes]`."""
        return numbers.wide(output).log_softmax(-1)

    def probabilities(self, output: Tensor) -> Tensor:
        """Compute the probability of each class, `[examples, classes]`."""
        return numbers.wide(output).softmax(-1)

    def prediction(self, output: Tensor) -> Tensor:
        return self.probabilities(output)

    def mixture(self, outputs: Tensor) -> Tensor:
        return numbers.mixed(outputs)

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        return output

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        """Compute the accuracy, the KL divergence of the prediction from the label, and the loss.

        A prediction is right if it is a most probable class of the label; there may be several. The divergence is the loss
        less the entropy of the labels, so that 0 is the best there is.
        """
        chosen = labels.gather(-1, evidence.argmax(-1, keepdim=True))
        loss = float(self.loss(evidence, labels))
        return {
            "accuracy": float((chosen >= labels.max(-1, keepdim=True).values).double().mean()),
            "kl": loss - float(torch.special.entr(labels.double()).sum(-1).mean()),
            "loss": loss,
        }

    def label(self, text: str) -> Sequence[float]:
        """Read a share for each class. Raises ValueError, which says what is needed instead."""
        shares = [
            texts.as_number(each.strip()) for each in texts.fields(text, lambda part: texts.as_number(part) is not None)
        ]
        found = [share for share in shares if share is not None and share >= 0]
        total = sum(found)
        if not len(found) == len(shares) == self.classes:
            raise ValueError(f"a share for each of {self.classes} classes, from 0 to 1,")
        if abs(total - 1) > OFF:
            raise ValueError(f"a list of shares that sum to 1, and not to {total:g},")
        return [share / total for share in found]

    def text(self, label: Sequence[float]) -> str:
        """Write the shares as a JSON list, with six significant digits."""
        return json.dumps([float(f"{share:.6g}") for share in label])
