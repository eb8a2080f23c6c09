"""Objectives: what a kind of output means - its loss, its divergence, its prediction and its metrics.

Every loss and divergence is a mean over examples, and every output keeps its examples in the first dimension. The
divergences are the `l_s` of SMART (Jiang et al., ACL 2020, section 3.1): the sum of both Kullback-Leibler divergences
for distributions, the squared difference for scores. Two outputs of different shape are an error, never a broadcast.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import count
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn import functional as F

from regkit.base.errors import nearest
from regkit.tasks.batch import Batch

Scores = Mapping[str, float]

MOST_OUTPUTS = 1 << 16  # of an objective that a file describes: a head is made before its weights are read
SCALE = 5.0  # the end of the scale of every regression, which begins at 0: that of STS, for which its head is made


@dataclass(frozen=True)
class Metric:
    """How a score is to be read, and when there is one."""

    lower_is_better: bool = False
    needs_contrast: bool = False  # compares examples whose labels differ: where all are alike, it is not defined


LOSS = Metric(lower_is_better=True)


class Objective(Protocol):
    """How outputs of one kind are trained, compared and scored.

    The core and the plugins use nothing else of an output.
    """

    kind: ClassVar[str]
    scores: ClassVar[Mapping[str, Metric]]  # every score that `metrics` gives
    metric: ClassVar[str]  # the one that decides which checkpoint is best; higher is better
    label_type: ClassVar[torch.dtype]

    @property
    def width(self) -> int:
        """The number of outputs that the head gives for an example; with 1, the output is `[examples]`."""
        ...

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Compute how wrong the output is: a scalar, the mean over examples."""
        ...

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        """Compute how far apart two outputs are: a scalar, the mean over examples.

        It is symmetric, and 0 for equal outputs. Raises ValueError if the shapes differ.
        """
        ...

    def prediction(self, output: Tensor) -> Tensor:
        """Turn an output into predicted labels: `[examples]`, a class or a score each."""
        ...

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        """Reduce a batch's output to what `metrics` needs: one row for each example, often the output itself."""
        ...

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        """Compute the scores of a whole split that its labels define, its mean loss among them."""
        ...

    def label(self, text: str) -> float:
        """Read a label as a table writes it. Raises ValueError, which says what is needed instead."""
        ...

    def text(self, label: float) -> str:
        """Write a label or prediction as a table does."""
        ...


@runtime_checkable
class Probabilistic(Protocol):
    """An objective that gives each of its classes a probability."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes as the data writes them, in the order of `probabilities`."""
        ...

    def probabilities(self, output: Tensor) -> Tensor:
        """Compute the probability of each class, `[examples, classes]`."""
        ...


def differ(values: Tensor) -> bool:
    """Whether the examples differ in these labels or predictions: `[examples]`."""
    return bool((values != values[0]).any())


def defined(objective: Objective, labels: Tensor) -> list[str]:
    """List the scores that the labels of a split define."""
    contrast = differ(labels)
    return [name for name, metric in objective.scores.items() if contrast or not metric.needs_contrast]


def _wide(values: Tensor) -> Tensor:
    """Convert to float32, or keep a wider type: bf16 has too few digits for small differences."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _same_shape(output: Tensor, other: Tensor) -> None:
    if output.shape != other.shape:
        raise ValueError(f"outputs of shapes {list(output.shape)} and {list(other.shape)} cannot be compared")


def _kl_both_ways(output: Tensor, other: Tensor) -> Tensor:
    """Compute the terms of KL(p, q) + KL(q, p) from logits: (p - q)(log p - log q) of each class.

    Both logits and terms are `[rows, classes]`; their sum over classes is the divergence of a row.
    """
    _same_shape(output, other)
    log_p, log_q = _wide(output).log_softmax(-1), _wide(other).log_softmax(-1)
    return (log_p.exp() - log_q.exp()) * (log_p - log_q)


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
        return F.cross_entropy(_wide(output), labels)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        return _kl_both_ways(output, other).sum(-1).mean()

    def prediction(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.names or tuple(map(str, range(self.classes)))

    def probabilities(self, output: Tensor) -> Tensor:
        return _wide(output).softmax(-1)

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
            return _whole(text, self.classes - 1)
        if text not in self.names:
            raise ValueError(f"one of {', '.join(self.names)}")
        return self.names.index(text)

    def text(self, label: float) -> str:
        return self.names[int(label)] if self.names else str(int(label))


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
    class_names: ClassVar[tuple[str, ...]] = ("0", "1")

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        _same_shape(output, labels)
        return F.binary_cross_entropy_with_logits(_wide(output), labels.to(_wide(output).dtype))

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        """Compute KL(p, q) + KL(q, p) of two Bernoulli distributions: (p - q)(logit p - logit q)."""
        _same_shape(output, other)
        output, other = _wide(output), _wide(other)
        return ((output.sigmoid() - other.sigmoid()) * (output - other)).mean()

    def prediction(self, output: Tensor) -> Tensor:
        return (output > 0).long()

    def probabilities(self, output: Tensor) -> Tensor:
        return torch.stack([(-_wide(output)).sigmoid(), _wide(output).sigmoid()], dim=-1)

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
        return _whole(text, 1)

    def text(self, label: float) -> str:
        return str(int(label))


@dataclass(frozen=True)
class Regression:
    """A score on a range; the output is `[examples]`, on a scale from 0 to 5 that stands for it.

    So nothing that is learned depends on the unit of the table: outputs, labels, loss, divergence and predictions are on the
    scale, and only `label` and `text` know the range. A table of 0 to 5, such as STS, is on the scale as it is.
    """

    low: float
    high: float
    kind: ClassVar[str] = "regression"
    scores: ClassVar[Mapping[str, Metric]] = {
        "pearson": Metric(needs_contrast=True),
        "spearman": Metric(needs_contrast=True),
        "loss": LOSS,
    }
    metric: ClassVar[str] = "pearson"
    label_type: ClassVar[torch.dtype] = torch.float32
    width: ClassVar[int] = 1

    def __repr__(self) -> str:
        """Name range and scale; a run's head is known by it, and was once in the unit of the table."""
        scale = "" if (self.low, self.high) == (0, SCALE) else f", scale={SCALE:g}"
        return f"Regression(low={self.low}, high={self.high}{scale})"

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        return self.divergence(output, labels)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        """Compute the squared difference on the scale: from one end of the range to the other it is 25."""
        _same_shape(output, other)
        return (_wide(output) - _wide(other)).square().mean()

    def prediction(self, output: Tensor) -> Tensor:
        return output.float().clamp(0, SCALE)

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        return output

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        from scipy.stats import pearsonr, spearmanr

        truth, guess = labels.double().numpy(), evidence.double().numpy()
        loss = float(self.loss(evidence, labels))
        if not differ(labels):
            return {"loss": loss}
        if np.ptp(guess) == 0:  # a constant prediction correlates with nothing
            return {"pearson": 0.0, "spearman": 0.0, "loss": loss}
        return {
            "pearson": float(pearsonr(truth, guess).statistic),
            "spearman": float(spearmanr(truth, guess).statistic),
            "loss": loss,
        }

    def label(self, text: str) -> float:
        """Read a number of the table onto the scale. Raises ValueError, which says what is needed instead."""
        value = _number(text)
        if value is None or not self.low <= value <= self.high:
            raise ValueError(f"a number from {self.text(0)} to {self.text(SCALE)}")
        return self._on_scale(value)

    def text(self, label: float) -> str:
        """Write a point of the scale in the table's unit, in the fewest decimals that read back the same."""
        value = min(max(self.low + label * self.unit, self.low), self.high)
        texts = (f"{value:z.{decimals}f}" for decimals in count())
        return next(text for text in texts if self._alike(float(text), value))

    def _alike(self, written: float, value: float) -> bool:
        """Whether a number is in the range, and on the scale the same float32 as another."""
        same = np.float32(self._on_scale(written)) == np.float32(self._on_scale(value))
        return bool(same) and self.low <= written <= self.high

    def _on_scale(self, value: float) -> float:
        return (value - self.low) / self.unit

    @property
    def unit(self) -> float:
        """The length of a point of the scale in the table's unit."""
        return (self.high - self.low) / SCALE


@dataclass(frozen=True)
class MaskedWords:
    """Which words were masked, labelled by their ids (Devlin et al., 2019).

    The output is logits, `[masked words, words]`. The mean is over masked words, not over texts.
    """

    words: int
    kind: ClassVar[str] = "masked words"
    scores: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric(),
        "perplexity": Metric(lower_is_better=True),
        "loss": LOSS,
    }
    metric: ClassVar[str] = "accuracy"
    label_type: ClassVar[torch.dtype] = torch.int64

    @property
    def width(self) -> int:
        return self.words

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(_wide(output), labels, reduction="sum") / max(len(labels), 1)

    def divergence(self, output: Tensor, other: Tensor) -> Tensor:
        return _kl_both_ways(output, other).sum() / max(len(output), 1)

    def prediction(self, output: Tensor) -> Tensor:
        return output.argmax(-1)

    def evidence(self, output: Tensor, batch: Batch) -> Tensor:
        """Count each example's masked words, add up their losses and count the correct ones: `[examples, 3]`.

        The logits of a whole split would fill memory.
        """
        assert batch.labels is not None
        assert batch.targets is not None
        losses = F.cross_entropy(_wide(output), batch.labels, reduction="none")
        found = torch.stack([torch.ones_like(losses), losses, (self.prediction(output) == batch.labels).float()], dim=1)
        sums = found.new_zeros(len(batch), 3)
        return sums.index_add(0, batch.example_of[batch.targets], found)

    def metrics(self, evidence: Tensor, labels: Tensor) -> Scores:
        masked, loss, found = evidence.double().sum(0).tolist()
        loss /= max(masked, 1)
        with np.errstate(over="ignore"):  # it may be infinite
            perplexity = float(np.exp(loss))
        return {"accuracy": found / max(masked, 1), "perplexity": perplexity, "loss": loss}

    def label(self, text: str) -> float:
        return _whole(text, self.words - 1)

    def text(self, label: float) -> str:
        return str(int(label))


KINDS: Mapping[str, type[Any]] = {
    each.kind: each for each in (Classification, Binary, Regression)
}  # that data declares


def described(objective: Objective) -> dict[str, Any]:
    """Describe an objective of one of these kinds by plain values: its kind, and its fields."""
    return {"kind": objective.kind, **asdict(objective)}  # type: ignore[call-overload]


def from_description(values: Mapping[str, Any]) -> Objective:
    """Build the objective that `described` gave these values of. Raises ValueError for any others."""
    given = dict(values)
    kind = KINDS.get(str(given.pop("kind", "")))
    if kind is None:
        raise ValueError(f"there is no kind '{values.get('kind')}'. {nearest(str(values.get('kind')), KINDS)}")
    for name in given.keys() - {field.name for field in fields(kind)}:  # which pydantic ignores in a dataclass
        raise ValueError(f"a {kind.kind} has no field '{name}'")
    objective: Objective = TypeAdapter(kind).validate_python(given)  # pydantic's ValidationError is a ValueError
    if not 1 <= objective.width <= MOST_OUTPUTS:
        raise ValueError(f"{objective.width} outputs; a number from 1 to {MOST_OUTPUTS} is needed")
    if isinstance(objective, Regression) and not 0 < objective.unit < np.inf:
        raise ValueError(f"a range from {objective.low} to {objective.high}")
    if (names := getattr(objective, "names", ())) and len(names) != objective.width:
        raise ValueError(f"{len(names)} names for {objective.width} classes")
    return objective


def _whole(text: str, highest: int) -> float:
    value = _number(text)  # the course writes a paraphrase as 1.0
    if value is None or not (value.is_integer() and 0 <= value <= highest):
        raise ValueError(f"a whole number from 0 to {highest}" if highest > 1 else "0 or 1")
    return value


def _number(text: str) -> float | None:
    """Read a decimal number such as -1, 2.5 or 1e-05; None for other text, such as 1_0 or nan."""
    return float(text) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) else None
