"""Multilabel: any number of several labels at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from regkit.tasks import labels as texts
from regkit.tasks.batch import Batch
from regkit.tasks.objectives import metrics, numbers
from regkit.tasks.objectives.checks import check_classes, check_metric, check_weights
from regkit.tasks.objectives.objective import Scores
from regkit.tasks.scores import SCORES, Metric


@dataclass(frozen=True)
class Multilabel:
    """Yes or no for each of several labels, labelled by a list of those that hold, or by 0 or 1 for each.

    The output is the logit of yes for each label, `[examples, labels]`, as the labels are. Loss and divergence are means
    over labels and examples, so a term weighs against another as it does in a binary task, however many labels there are.
    """

    classes: int
    names: tuple[str, ...] = ()
    weights: tuple[tuple[float, float], ...] = field(default=(), repr=False)  # of no and of yes, for each label
    metric: str = field(default="micro_f1", repr=False)
    kind: ClassVar[str] = "multilabel"
    scores: ClassVar[Mapping[str, Metric]] = SCORES[kind]
    label_type: ClassVar[torch.dtype] = torch.int64

    def __post_init__(self) -> None:
        check_classes(self.kind, self.classes, self.names, ())
        if self.classes == 2 and not self.names:  # [0, 1] could be both of them, or the second alone
            raise ValueError("a multilabel task of 2 classes needs their names")
        check_weights([weight for pair in self.weights for weight in pair], 2 * self.classes)
        check_metric(self.kind, self.metric)

    @property
    def width(self) -> int:
        return self.classes

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        return numbers.yes_cross_entropy(output, labels, self.weights)

    def smoothed(self, labels: Tensor, share: float) -> Tensor:
        """Spread a share of each label over yes and no: `[examples, labels]`, which `loss` takes as labels."""
        return numbers.smoothed(labels, share, 2)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        """Compute KL(p, q) + KL(q, p) of the Bernoulli distributions of each label; the mean over labels too."""
        return numbers.yes_kl_both_ways(output, other).mean()

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Compute the log-probability of no and yes for each label, `[examples, labels, 2]`."""
        return numbers.log_no_and_yes(output)

    def probabilities(self, output: Tensor) -> Tensor:
        """Compute the probability that each label holds, `[examples, labels]`."""
        return numbers.wide(output).sigmoid()

    def prediction(self, output: Tensor) -> Tensor:
        return (output > 0).long()

    def mixture(self, outputs: Tensor) -> Tensor:
        return numbers.mixed_yes(outputs).float()

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        return output

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        truth, guess = labels.numpy(), self.prediction(evidence).numpy()
        return {
            "micro_f1": metrics.f1(truth, guess),
            "macro_f1": float(np.mean(list(map(metrics.f1, truth.T, guess.T)))),
            **_mean_auc(truth, evidence.float().numpy()),
            "loss": float(self.loss(evidence, labels)),
        }

    def label(self, text: str) -> Sequence[float]:
        """Read which labels hold, as 0 or 1 for each. Raises ValueError, which says what is needed instead."""
        found = texts.fields(text, lambda part: self._known(part) or _is_yes_or_no(part))
        if len(found) == self.classes and all(map(_is_yes_or_no, found)):
            if len(set(found)) == self.classes and all(map(self._known, found)):
                raise ValueError(f"a list that can only be read in one way, as {found} are names too,")
            return [texts.yes_or_no(each) for each in found]
        if not all(map(self._known, found)):
            names = self.names or [str(number) for number in range(self.classes)]
            raise ValueError(f"a list of any of {texts.listed(names)}, or 0 or 1 for each of them,")
        held = {texts.class_of(each, self.classes, self.names) for each in found}
        return [int(place in held) for place in range(self.classes)]

    def text(self, label: Sequence[float]) -> str:
        """Write the labels that hold, parted by |; none is no text."""
        return texts.write_list([texts.class_name(place, self.names) for place, holds in enumerate(label) if holds])

    def _known(self, text: str) -> bool:
        try:
            texts.class_of(text, self.classes, self.names)
        except ValueError:
            return False
        return True


def _is_yes_or_no(text: str) -> bool:
    try:
        texts.yes_or_no(text)
    except ValueError:
        return False
    return True


def _mean_auc(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Compute the mean AUC of the labels that have both yes and no; nothing if none has."""
    both = [place for place, column in enumerate(truth.T) if column.min() != column.max()]
    found = [metrics.auc(truth[:, place], scores[:, place]) for place in both]
    return {"auc": float(np.mean(found))} if found else {}
