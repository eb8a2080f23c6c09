"""Target: what a task learns - its kind, its labels, their classes or range, and how they count."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from regkit.base.bounds import as_written
from regkit.base.errors import nearest
from regkit.data.formats.records import first_duplicate
from regkit.data.labels import LARGEST
from regkit.tasks.labels import class_of, yes_or_no
from regkit.tasks.names import MOST_CLASSES
from regkit.tasks.scores import SCORES, a_task

if TYPE_CHECKING:
    from regkit.tasks.objectives import Objective

NARROWEST = 1e-30  # range of scores; a number divided by a narrower one may be too large for a float
Kind = Literal["classification", "binary", "regression", "multilabel", "ordinal", "soft"]
OF_COLUMNS = ("multilabel", "soft")  # kinds whose label may be a column for each class
Bound = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Classes = Annotated[int, Field(ge=2, le=MOST_CLASSES)] | Annotated[tuple[str, ...], Field(min_length=2)]
Weights = Literal["balanced"] | tuple[float, ...] | dict[str, float]  # of classes, in their order or by name


def _weights(given: object) -> object:
    """Check weights of classes. Their ratios are such as a loss in float32 holds."""
    if given is None or given == "balanced":
        return given
    weights = list(given.values()) if isinstance(given, dict) else given
    if not isinstance(weights, list | tuple) or not all(map(_is_weight, weights)):
        raise ValueError('"balanced", or a number from 1e-6 to 1e6 for each class, is needed')
    return given


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1e-6 <= value <= 1e6


class Target(BaseModel):
    """What a task learns, as `tasks.toml` declares it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Kind | None = None  # read off the labels unless said
    label: str | tuple[str, ...]  # the column of the label, or one for each class of a multilabel or soft task
    classes: Classes | None = None  # their names, or their number where they are numbers from 0
    class_weights: Annotated[Weights | None, BeforeValidator(_weights)] = None  # how much each counts in the loss
    metric: str | None = None  # the score that decides which checkpoint is best; each kind has one of its own
    range: tuple[Bound, Bound] | None = None  # lowest and highest score

    _written = field_validator("*", mode="wrap")(as_written)

    @model_validator(mode="after")
    def _fits(self) -> "Target":
        if wrong := self._wrong_columns() or self._wrong_classes() or self._wrong_range() or self._wrong_score():
            raise ValueError(wrong)
        return self

    def _wrong_columns(self) -> str:
        """Say what does not fit about the columns of labels; nothing if all does."""
        if isinstance(self.label, str):
            return ""
        if self.kind is None:
            return f"a task with several label columns needs a kind, {' or '.join(OF_COLUMNS)}"
        if self.kind not in OF_COLUMNS:
            return f"{a_task(self.kind)} has one label column; several are for the kinds {' and '.join(OF_COLUMNS)}"
        if len(self.label) < 2:
            return f"{a_task(self.kind)} with label columns needs two or more; one alone is for the kind binary"
        if (twice := first_duplicate(self.label)) is not None:
            return f"label names column '{twice}' twice"
        if self.classes is not None and self.count != len(self.label):
            return f"label names {len(self.label)} columns, and there are {self.count} classes"
        return ""

    def _wrong_classes(self) -> str:
        """Say what does not fit about the classes; nothing if all does."""
        if self.kind == "regression":
            return "" if self.classes is None else "a regression task has a range, and no classes"
        if self.kind == "soft" and self.count is None:
            return "a soft task needs 'classes', their names or their number, which a tasks.toml declares"
        if isinstance(self.classes, tuple) and (twice := first_duplicate(map(str.strip, self.classes))) is not None:
            return f"classes names '{twice}' twice"  # labels are read without the blanks around them
        if self.kind == "binary" and self.count != 2:
            return "a binary task has two classes, of which the second is yes"
        if self.kind == "ordinal" and self.count is not None and self.count < 3:
            return "an ordinal task needs three classes or more; two are for the kind binary"
        if self.kind == "multilabel" and self.count == 2 and not self.names:
            return "a multilabel task of two classes needs their names"
        return ""

    def _wrong_range(self) -> str:
        """Say what does not fit about the range of scores; nothing if all does."""
        if self.range is None:
            return ""
        if self.kind is None:
            return "a task with a range is of the kind regression, which it must say"
        if self.kind != "regression":
            return f"{a_task(self.kind)} has classes, and no range"
        if not self.range[1] - self.range[0] >= NARROWEST:
            return "range needs its lowest value first, and a higher one after it"
        return ""

    def _wrong_score(self) -> str:
        """Say what does not fit about the metric and the class weights; nothing if all does."""
        if self.kind is None:  # it is checked when the kind has been read off the labels
            return ""
        known = SCORES[self.kind]
        if self.metric is not None and self.metric not in known:
            return f"metric is '{self.metric}', no score of {a_task(self.kind)}. {nearest(self.metric, known)}"
        if self.class_weights is None:
            return ""
        if self.kind in ("regression", "soft"):
            return f"class_weights are for kinds whose labels are classes, and those of {a_task(self.kind)} are numbers"
        weights = self.weights if self.count else None
        if isinstance(weights, tuple) and len(weights) != self.count:
            return f"class_weights has {len(weights)} weights, and there are {self.count} classes"
        return ""

    @property
    def is_open(self) -> bool:
        """Whether kind, classes or range are still to be read off the training labels."""
        if self.kind == "regression":
            return self.range is None
        return self.kind is None or self.count is None

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The names of the label columns: one, or one for each class."""
        return (self.label,) if isinstance(self.label, str) else self.label

    @property
    def label_name(self) -> str:
        """What messages call the label: its column, or its columns."""
        return ", ".join(self.label_columns)

    def label_of(self, row: Mapping[str, str]) -> str:
        """Read a row's label as its table writes it.

        Of several columns it is a JSON list, and nothing if all are empty.
        """
        cells = [row.get(column, "").strip() for column in self.label_columns]
        return cells[0] if len(cells) == 1 else json.dumps(cells, ensure_ascii=False) if any(cells) else ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes; the columns', where each has one; none, where classes are numbers."""
        if isinstance(self.classes, tuple):
            return self.classes
        return () if isinstance(self.label, str) else self.label

    @property
    def count(self) -> int | None:
        """The number of classes; None where nothing says it."""
        if isinstance(self.classes, int):
            return self.classes
        return len(self.names) or (2 if self.kind == "binary" else None)

    @property
    def weights(self) -> Literal["balanced"] | tuple[float, ...] | None:
        """The weights of the classes in their order. Raises ValueError if there is one of no class."""
        if not isinstance(self.class_weights, dict):
            return self.class_weights
        given = {self._place(name): weight for name, weight in self.class_weights.items()}
        return tuple(given.get(place, 1.0) for place in range(self.count or 0))

    def _place(self, name: str) -> int:
        """Find the class that a weight is for. Raises ValueError, which names the nearest."""
        count = self.count or 0
        try:
            return yes_or_no(name) if self.kind == "binary" and not self.names else class_of(name, count, self.names)
        except ValueError:
            known = nearest(name, self.names or map(str, range(count)))
            raise ValueError(f"class_weights has a weight of '{name}', and there is no such class. {known}") from None

    @property
    def objective(self) -> "Objective":
        """The objective of this kind of task, with its classes or its range."""
        from regkit.tasks.objectives import from_description  # which imports torch

        values: dict[str, Any] = {"names": self.names}
        if self.range is not None:
            values = {"low": self.range[0], "high": self.range[1]}
        elif self.kind != "binary":
            values["classes"] = self.count
        if self.metric is not None:
            values["metric"] = self.metric
        return from_description({"kind": self.kind, **values})
