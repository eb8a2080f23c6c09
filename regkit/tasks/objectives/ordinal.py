"""Ordinal: one of several classes in an order, such as stars (McCullagh, 1980).

The proportional odds model of *Regression models for ordinal data*, JRSS B 42(2), section 2: one score for each text, and
thresholds that are the same for all texts. P(y > k) is the sigmoid of the score minus threshold k.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from regkit.tasks import labels as texts
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import metrics, numbers
from regkit.tasks.objectives.checks import check_classes, check_metric
from regkit.tasks.objectives.objective import Scores, differ
from regkit.tasks.scores import SCORES, Metric

CLOSEST = 1e-9  # two thresholds of a mixture, in logits


@dataclass(frozen=True)
class Ordinal:
    """One of three or more classes from the lowest to the highest, labelled 0 to classes - 1 or by name.

    The output is `[examples, classes - 1]`: the logit of P(y > 0), and for each further threshold a number whose softplus
    is its distance from the one before. So no output has thresholds out of order, and bf16 rounds none onto another. The
    loss is the cross-entropy of the classes, whose probabilities are the differences of P(y > k).
    """

    classes: int
    names: tuple[str, ...] = ()
    weights: tuple[float, ...] = field(default=(), repr=False)  # of the classes in the loss; none: all count the same
    metric: str = field(default="quadratic_kappa", repr=False)
    kind: ClassVar[str] = "ordinal"
    scores: ClassVar[Mapping[str, Metric]] = SCORES[kind]
    label_type: ClassVar[torch.dtype] = torch.int64

    def __post_init__(self) -> None:
        check_classes(self.kind, self.classes, self.names, self.weights, least=3)
        check_metric(self.kind, self.metric)

    @property
    def width(self) -> int:
        return self.classes - 1

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        return numbers.cross_entropy(self.log_probabilities(output), labels, self.weights)

    def smoothed(self, labels: Tensor, share: float) -> Tensor:
        """Spread a share of each label over all classes: `[examples, classes]`, which `loss` takes as labels."""
        return numbers.smoothed(numbers.distributions(labels, self.classes), share, self.classes)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        """Compute KL(p, q) + KL(q, p) of the distributions of classes: a scalar, the mean over examples."""
        numbers.same_shape(output, other)
        return numbers.kl_both_ways(self.log_probabilities(output), self.log_probabilities(other)).sum(-1).mean()

    def above(self, output: Tensor) -> Tensor:
        """Compute the logits of P(y > k) for each k but the highest class: `[examples, classes - 1]`, falling."""
        output = numbers.wide(output)
        return output[..., :1] - F.pad(F.softplus(output[..., 1:]).cumsum(-1), (1, 0))

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Compute the log-probability of each class, `[examples, classes]`; it is always finite.

        With a = P(y > k - 1), b = P(y > k) and their logits a distance of softplus(g) apart, a - b = a (1 - b) sigmoid(g).
        """
        above, gaps = self.above(output), numbers.wide(output)[..., 1:]
        reached, stopped = F.pad(F.logsigmoid(above), (1, 0)), F.pad(F.logsigmoid(-above), (0, 1))
        return reached + stopped + F.pad(F.logsigmoid(gaps), (1, 1))

    def probabilities(self, output: Tensor) -> Tensor:
        """Compute the probability of each class, `[examples, classes]`."""
        return self.log_probabilities(output).exp()

    def prediction(self, output: Tensor) -> Tensor:
        """Choose the class between whose thresholds the score is, `[examples]`: its distribution's median."""
        return (self.above(output) > 0).sum(-1)

    def mixture(self, outputs: Tensor) -> Tensor:
        """Mix the P(y > k) of each threshold, and write their logits as an output."""
        above = numbers.mixed_yes(self.above(outputs.double()))
        gaps = (above[..., :-1] - above[..., 1:]).clamp(min=CLOSEST)
        spread = gaps + (-(-gaps).expm1()).log()  # log(exp(x) - 1), which undoes softplus, without an overflow
        return torch.cat([above[..., :1], spread], dim=-1).float()

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        return output

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        truth, guess = labels.numpy(), self.prediction(evidence).numpy()
        return {
            **(self._agreement(evidence, labels) if differ(labels) else {}),
            "accuracy": metrics.accuracy(truth, guess),
            "mae": float(np.abs(truth - guess).mean()),
            "loss": float(self.loss(evidence, labels)),
        }

    def _agreement(self, evidence: Tensor, labels: Tensor) -> Scores:
        """Compute the quadratic kappa of the predictions, and the rank correlation of the expected classes."""
        truth, guess = labels.numpy(), self.prediction(evidence).numpy()
        expected = self.above(evidence.double()).sigmoid().sum(-1).numpy()
        constant = np.ptp(expected) == 0  # which correlates with nothing
        return {
            "quadratic_kappa": metrics.quadratic_kappa(truth, guess),
            "spearman": 0.0 if constant else metrics.spearman(truth, expected),
        }

    def label(self, text: str) -> float:
        return texts.class_of(text, self.classes, self.names)

    def text(self, label: float) -> str:
        return texts.class_name(label, self.names)
