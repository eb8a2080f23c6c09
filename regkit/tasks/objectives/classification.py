"""Classification: one of several classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from regkit.tasks import labels as texts
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import metrics, numbers
from regkit.tasks.objectives.checks import check_classes, check_metric
from regkit.tasks.objectives.objective import Scores
from regkit.tasks.scores import SCORES, Metric


@dataclass(frozen=True)
class Classification:
    """One of several classes, labelled 0 to classes - 1 or by name.

    The output is logits, `[examples, classes]`. The loss is the cross-entropy, to which an example contributes by the weight
    of its class.
    """

    classes: int
    names: tuple[str, ...] = ()
    weights: tuple[float, ...] = field(default=(), repr=False)  # of the classes in the loss; none: all count the same
    metric: str = field(default="accuracy", repr=False)
    kind: ClassVar[str] = "classification"
    scores: ClassVar[Mapping[str, Metric]] = SCORES[kind]
    label_type: ClassVar[torch.dtype] = torch.int64

    def __post_init__(self) -> None:
        check_classes(self.kind, self.classes, self.names, self.weights)
        check_metric(self.kind, self.metric)

    @property
    def width(self) -> int:
        return self.classes

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        return numbers.cross_entropy(output, labels, self.weights)

    def smoothed(self, labels: Tensor, share: float) -> Tensor:
        """Spread a share of each label over all classes: `[examples, classes]`, which `loss` takes as labels."""
        return numbers.smoothed(numbers.distributions(labels, self.classes), share, self.classes)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        return numbers.kl_both_ways(output, other).sum(-1).mean()

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Compute the log-probability of each class, `[examples, classes]`."""
        return numbers.wide(output).log_softmax(-1)

    def probabilities(self, output: Tensor) -> Tensor:
        """Compute the probability of each class, `[examples, classes]`."""
        return numbers.wide(output).softmax(-1)

    def prediction(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    def mixture(self, outputs: Tensor) -> Tensor:
        return numbers.mixed(outputs)

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        return output

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        truth, guess = labels.numpy(), self.prediction(evidence).numpy()
        return {
            "accuracy": metrics.accuracy(truth, guess),
            "macro_f1": metrics.macro_f1(truth, guess),
            "loss": float(self.loss(evidence, labels)),
        }

    def label(self, text: str) -> float:
        return texts.class_of(text, self.classes, self.names)

    def text(self, label: float) -> str:
        return texts.class_name(label, self.names)
