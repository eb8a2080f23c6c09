"""Binary: yes or no."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from regkit.tasks import labels as texts
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import metrics, numbers
from regkit.tasks.objectives.checks import check_classes, check_metric
from regkit.tasks.objectives.objective import Scores, differ
from regkit.tasks.scores import SCORES, Metric


@dataclass(frozen=True)
class Binary:
    """Yes or no, labelled 1 or 0, by such words or by two names of which the second is yes.

    The output is the logit of yes, `[examples]`.
    """

    names: tuple[str, ...] = ()
    weights: tuple[float, ...] = field(
        default=(), repr=False
    )  # of no and of yes in the loss; none: both count the same
    metric: str = field(default="accuracy", repr=False)
    kind: ClassVar[str] = "binary"
    scores: ClassVar[Mapping[str, Metric]] = SCORES[kind]
    label_type: ClassVar[torch.dtype] = torch.int64
    width: ClassVar[int] = 1
    classes: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_classes(self.kind, 2, self.names, self.weights)
        check_metric(self.kind, self.metric)

    def __repr__(self) -> str:
        """Name the two classes, if they have names; a run's head is known by it."""
        return f"Binary(names={self.names})" if self.names else "Binary()"

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        return numbers.yes_cross_entropy(output, labels, self.weights)

    def smoothed(self, labels: Tensor, share: float) -> Tensor:
        """Spread a share of each label over yes and no: chances of yes, `[examples]`, as labels for `loss`."""
        return numbers.smoothed(labels, share, 2)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        """Compute KL(p, q) + KL(q, p) of two Bernoulli distributions: (p - q)(logit p - logit q)."""
        return numbers.yes_kl_both_ways(output, other).mean()

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Compute the log-probability of no and yes, `[examples, 2]`."""
        return numbers.log_no_and_yes(output)

    def probabilities(self, output: Tensor) -> Tensor:
        """Compute the probabilities of no and yes, `[examples, 2]`."""
        output = numbers.wide(output)
        return torch.stack([-output, output], dim=-1).sigmoid()

    def prediction(self, output: Tensor) -> Tensor:
        return (output > 0).long()

    def mixture(self, outputs: Tensor) -> Tensor:
        return numbers.mixed_yes(outputs).float()

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        return output

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        truth, guess = labels.numpy(), self.prediction(evidence).numpy()
        auc = {"auc": metrics.auc(truth, evidence.float().numpy())} if differ(labels) else {}
        return {
            "accuracy": metrics.accuracy(truth, guess),
            "f1": metrics.f1(truth, guess),
            **auc,
            "loss": float(self.loss(evidence, labels)),
        }

    def label(self, text: str) -> float:
        return texts.class_of(text, 2, self.names) if self.names else texts.yes_or_no(text)

    def text(self, label: float) -> str:
        return texts.class_name(label, self.names)
