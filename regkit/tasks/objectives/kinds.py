"""Kinds: every kind of objective by name, and an objective as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from regkit.base.errors import explain, nearest
from regkit.tasks.objectives.binary import Binary
from regkit.tasks.objectives.classification import Classification
from regkit.tasks.objectives.masked_words import MaskedWords
from regkit.tasks.objectives.multilabel import Multilabel
from regkit.tasks.objectives.objective import Objective
from regkit.tasks.objectives.ordinal import Ordinal
from regkit.tasks.objectives.regression import Regression
from regkit.tasks.objectives.soft import SoftLabels
from regkit.tasks.scores import a_task

Known = Binary | Classification | MaskedWords | Multilabel | Ordinal | Regression | SoftLabels

KINDS: Mapping[str, type[Known]] = {
    form.kind: form for form in (Classification, Binary, Regression, Multilabel, Ordinal, SoftLabels, MaskedWords)
}


def class_names(objective: Objective) -> list[str]:
    """List the classes of an objective as tables name them; none, where it has no classes."""
    if not isinstance(objective, Binary | Classification | Multilabel | Ordinal | SoftLabels):
        return []
    return list(objective.names) or [str(number) for number in range(objective.classes)]


def described(objective: Objective) -> dict[str, Any]:
    """Describe an objective in plain values, for a checkpoint.

    Raises ValueError if it is of no kind in KINDS.
    """
    if not isinstance(objective, Known):
        raise ValueError(f"'{objective.kind}' is a kind of a plugin's own, which cannot be built again by its name")
    return {"kind": objective.kind, **asdict(objective)}


def from_description(values: Mapping[str, Any]) -> Known:
    """Build an objective from what `described` made of it. Raises ValueError, which says what is wrong."""
    kind = str(values.get("kind"))
    if kind not in KINDS:
        raise ValueError(f"there is no kind of task '{kind}'. {nearest(kind, KINDS)}")
    given = {name: value for name, value in values.items() if name != "kind"}
    known = [field.name for field in fields(KINDS[kind])]
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"{a_task(kind)} has no '{unknown[0]}'. {nearest(unknown[0], known)}")
    try:
        return _checker(kind).validate_python(given)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        own = first.get("ctx", {}).get("error")  # what the kind itself says of its fields together
        raise ValueError(
            str(own) if own and not first["loc"] else explain(error, a_task(kind), known).rstrip(".")
        ) from None


@cache
def _checker(kind: str) -> TypeAdapter[Known]:
    """Make what checks the values of a kind: it takes 2 ms, and every task asks several times."""
    return TypeAdapter(KINDS[kind])
