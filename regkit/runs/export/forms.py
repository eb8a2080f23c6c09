"""Forms: say what the output of each kind of task is in other programs.

A kind of task that others know has a line in `FORMS`. One without a line is exported by no format, and refused by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regkit.base.errors import ConfigError
from regkit.tasks.objectives import (
    Binary,
    Classification,
    Multilabel,
    Objective,
    Ordinal,
    Regression,
    SoftLabels,
    class_names,
)
from regkit.tasks.task import Task


@dataclass(frozen=True)
class Form:
    """The numbers that others expect, which are a linear function of our output: `scale @ output + shift`.

    That function is folded into the last linear layer where there is one.
    """

    problem: str  # `problem_type` of transformers
    labels: tuple[str, ...]  # what the numbers stand for
    scale: Tensor  # [their numbers, our outputs]
    shift: Tensor  # [their numbers]
    activation: str = "Identity"  # of torch: what the numbers of a cross-encoder of sentence-transformers go through
    curve: Callable[[Tensor], Tensor] | None = None  # gives the numbers instead, if no linear function does

    @property
    def name(self) -> str:
        """Whether they are the logits of classes, or a score in the unit of the table."""
        return "score" if self.problem == "regression" else "logits"

    def convert(self, output: Tensor) -> Tensor:
        """Convert an output, `[examples]` or `[examples, outputs]`, to `[examples, their numbers]`."""
        if self.curve:
            return self.curve(output)
        return output.reshape(-1, self.scale.shape[1]) @ self.scale.T + self.shift

    def fold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Convert the last linear layer, `[outputs, width]` and `[outputs]`, so that it gives their numbers.

        Raises ConfigError if no linear layer gives them.
        """
        if self.curve:
            raise ConfigError("its classes have thresholds, which no linear layer holds; --format onnx holds them.")
        return self.scale @ weight, self.scale @ bias + self.shift


def _classes(objective: Classification | SoftLabels) -> Form:
    labels = tuple(class_names(objective))
    return Form("single_label_classification", labels, torch.eye(objective.classes), torch.zeros(objective.classes))


def _yes_or_no(objective: Binary) -> Form:
    """Two logits, 0 and ours: their softmax is the sigmoid of ours."""
    labels = (objective.text(0), objective.text(1))
    return Form("single_label_classification", labels, torch.tensor([[0.0], [1.0]]), torch.zeros(2), "Sigmoid")


def _score(objective: Regression) -> Form:
    """A score in the unit of the table, not clipped to its range."""
    return Form("regression", ("score",), torch.tensor([[objective.unit]]), torch.tensor([objective.low]))


def _any_of(objective: Multilabel) -> Form:
    one = torch.eye(objective.classes)
    return Form("multi_label_classification", tuple(class_names(objective)), one, torch.zeros(len(one)), "Sigmoid")


def _ordered(objective: Ordinal) -> Form:
    """The logarithms of the classes' probabilities, which their softmax gives back."""
    none = torch.zeros(objective.classes, objective.width)
    names = tuple(class_names(objective))
    return Form("single_label_classification", names, none, none[:, 0], curve=objective.log_probabilities)


FORMS: Mapping[type[Any], Callable[[Any], Form]] = {
    Classification: _classes,
    Binary: _yes_or_no,
    Regression: _score,
    Multilabel: _any_of,
    Ordinal: _ordered,
    SoftLabels: _classes,
}


def one_number(form: Form) -> Form:
    """Keep the logit of yes alone, as a CrossEncoder has it; other forms stay as they are."""
    if form.activation != "Sigmoid" or form.problem == "multi_label_classification":
        return form
    return Form(form.problem, form.labels[1:], form.scale[1:], form.shift[1:], form.activation)


def form_of(task: Task) -> Form:
    """Find what a task's output is in other programs. Raises ConfigError for an unknown kind."""
    objective: Objective = task.objective
    if type(objective) not in FORMS:
        known = ", ".join(each.kind for each in FORMS)
        raise ConfigError(f"task '{task.name}' is of kind '{objective.kind}', which no format holds; {known} are held.")
    return FORMS[type(objective)](objective)
