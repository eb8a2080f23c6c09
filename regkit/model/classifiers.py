"""Classifiers: read the head of a `...ForSequenceClassification`, and fit it to a task."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regkit.base.errors import EncoderError, short
from regkit.base.files import read_object
from regkit.model.adapter import ON_POOLER
from regkit.model.families import FAMILIES
from regkit.model.weight_files import Tensors
from regkit.model.weights import read_tensors
from regkit.tasks.objectives import SCALE, Binary, Multilabel, Objective, Ordinal, Regression, class_names

CLASSIFIERS = {name: family.classifier for name, family in FAMILIES.items()} | ON_POOLER
NONE_NEEDED = ("", "MaskedLM", "PreTraining", "NextSentencePrediction")  # `head_names` has these, or there is no head


@dataclass(frozen=True)
class Classifier:
    """A trained linear layer on the pooler's vector, and what its outputs mean."""

    weight: Tensor  # [outputs, width]
    bias: Tensor  # [outputs]
    names: Sequence[str]  # of the outputs: their numbers where they have no names
    problem: str | None = None  # `problem_type` of config.json

    def __str__(self) -> str:
        """Describe the outputs."""
        if len(self.names) == 1:
            return "a score" if self.problem == "regression" else "a single number, of unknown meaning"
        several = ", of which several may hold" if self.problem == "multi_label_classification" else ""
        return f"{len(self.names)} classes ({_listed(self.names)}){several}"

    def fit(self, objective: Objective) -> Tensors | None:
        """Convert to the weights of our `Linear` head; None if its output would differ.

        The classes of a task may be in another order. If either side has numbers for names, the order tells.
        """
        if isinstance(objective, Regression) and len(self.names) == 1 and self.problem == "regression":
            weight, bias = self.weight / objective.unit, (self.bias - objective.low) / objective.unit
            return {"linear.weight": weight, "linear.bias": bias}
        several = self.problem == "multi_label_classification"
        known = self.problem in (None, "single_label_classification", "multi_label_classification")
        fits = known and several == isinstance(objective, Multilabel)
        order = self._order(_labels(objective)) if fits else None
        if order is None:
            return None
        weight, bias = self.weight[order], self.bias[order]
        if isinstance(objective, Binary):  # the logit of yes against no
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        return {"linear.weight": weight, "linear.bias": bias}

    def meaning(self, objective: Objective) -> str:
        """Say what is only supposed about the outputs, as nothing names it; nothing if all is known."""
        if isinstance(objective, Regression):
            return f", its scores taken as those from {objective.text(0)} to {objective.text(SCALE)}"
        labels = _labels(objective)
        known = set(_plain(labels)) == set(_plain(self.names))
        return "" if known else f", its classes {_listed(self.names)} taken as {_listed(labels)}"

    def _order(self, labels: Sequence[str]) -> list[int] | None:
        """Find the output that stands for each label; None where they do not correspond."""
        wanted, found = _plain(labels), _plain(self.names)
        if set(wanted) == set(found) and len(set(found)) == len(found) == len(wanted):
            return [found.index(label) for label in wanted]
        numbers = _numbers(len(found))
        return list(range(len(found))) if len(wanted) == len(found) and numbers in (wanted, found) else None


def other_heads(folder: Path) -> list[str]:
    """List the models in config.json whose head is not one of masked words: BertForQuestionAnswering."""
    found = read_object(folder / "config.json").get("architectures")
    names = [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
    return [name for name in names if name.isidentifier() and name.partition("For")[2] not in NONE_NEEDED]


def read_classifier(folder: Path, width: int) -> Classifier:
    """Read the head of a `...ForSequenceClassification`.

    Raises EncoderError, which says why it cannot be used.
    """
    entries = read_object(folder / "config.json")
    family = str(entries.get("model_type", "bert"))
    form = CLASSIFIERS.get(family)
    if form is None:
        raise EncoderError(f"regkit does not know what the head of a '{family}' model is on.")
    if form.activation != "tanh":
        raise EncoderError(f"it is on a layer with {form.activation}, and the pooler has tanh.")
    tensors = read_tensors(folder)
    below = [tensor for name, tensor in tensors.items() if f".{name}".endswith(f".{form.below}.weight")]
    if [tensor.shape for tensor in below] != [(width, width)]:  # of two texts, or it is a new one in the encoder
        raise EncoderError(f"the layer '{form.below}', which it is on, is not in its checkpoint, or has another size.")
    weight, bias = (tensors.get(name, torch.empty(0)) for name in form.tensors.values())
    if bias.dim() != 1 or not len(bias) or weight.shape != (len(bias), width):
        raise EncoderError(f"'{form.name}' is not in its checkpoint, or has another size.")
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise EncoderError("it has numbers that are not finite.")
    return Classifier(weight.float(), bias.float(), _names(entries, len(bias)), entries.get("problem_type"))


def _names(entries: Mapping[str, Any], outputs: int) -> list[str]:
    """Read the names of the outputs, of which transformers makes LABEL_0, LABEL_1 where they have none."""
    found, numbers = entries.get("id2label"), _numbers(outputs)
    if not isinstance(found, dict) or set(found) != set(numbers):
        return numbers
    return [re.sub(r"^LABEL_(?=\d+$)", "", str(found[number])) for number in numbers]


def _labels(objective: Objective) -> list[str]:
    """List the classes of a task as its table names them."""
    return [] if isinstance(objective, Ordinal) else class_names(objective)  # thresholds are no logits


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _plain(names: Sequence[str]) -> list[str]:
    return [name.strip().casefold() for name in names]


def _listed(names: Sequence[str]) -> str:
    return short("".join(filter(str.isprintable, ", ".join(names))))
