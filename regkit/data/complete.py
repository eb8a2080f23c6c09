"""Complete: read kind, classes and range off the labels, where a task leaves them open."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from regkit.base.errors import ConfigError, DataError, explain, short
from regkit.data.labels import (
    COMMA,
    doubtful,
    misfit,
    of_lists,
    read_classes,
    read_kind,
    read_members,
    read_order,
    read_range,
)
from regkit.data.prepared import Prepared
from regkit.tasks.labels import as_number, fields
from regkit.tasks.names import Split

SHOWN = 12  # classes that a remark names
READERS = {"classification": read_classes, "ordinal": read_order, "multilabel": read_members}  # of a kind's classes


def complete(found: Prepared) -> None:
    """Read kind, classes and range off the labels, where the task leaves them open. Raises DataError."""
    spec, table = found.spec, found.tables["train"]
    names = table.classes.get(spec.label_name)
    kind = spec.kind or ("classification" if names else _read_kind(found))
    update: dict[str, Any] = {"kind": kind}
    if spec.kind is None and kind == "binary":
        read_classes(table.name, spec.label_name, _given(found))  # which refuses one class alone
    if kind in READERS and spec.count is None:
        classes_of = READERS[kind]
        values = _members(found) if kind == "multilabel" else _given(found)
        update["classes"] = tuple(names) if names else classes_of(table.name, spec.label_name, values)
    if kind == "regression" and spec.range is None:
        scored = (label for split in ("train", "dev") if split in found.tables for label in _scores(found, split))
        update["range"] = read_range(table.name, spec.label_name, scored)
    try:
        found.spec = type(spec).model_validate(dict(spec) | update)  # what could not be checked before
    except ValidationError as error:
        raise ConfigError(explain(error, table.name, type(spec).model_fields)) from None
    found.notes.append(f"read off {spec.label_name}: {_said(update)}")
    if kind == "classification" and isinstance(read := update.get("classes"), tuple):  # and not their number
        found.notes += [*doubtful(read), *(of_lists(read) if spec.kind is None else ())]


def _read_kind(found: Prepared) -> str:
    """Read the kind off the training labels. Raises DataError, with the line, where it must be said."""
    kind = read_kind(_given(found))
    if kind == "classification" and (odd := misfit(found.labels("train"))):
        row, said = odd
        raise DataError(f"{found.tables['train'].where(row)}: {found.spec.label_name} {said}.")
    return kind


def _given(found: Prepared) -> Iterator[str]:
    """Iterate over the training labels that are not empty."""
    return filter(None, found.labels("train"))


def _members(found: Prepared) -> Iterator[str]:
    """Iterate over the members of the training labels, which are lists. Raises DataError, with the line."""
    for row, label in enumerate(found.labels("train")):
        try:
            yield from fields(label, bool)
        except ValueError as needed:
            said = f"{found.spec.label_name} is {short(label)}; {needed} is needed"
            raise DataError(f"{found.tables['train'].where(row)}: {said}.") from None


def _scores(found: Prepared, split: Split) -> Iterator[str]:
    """Iterate over the labels of a split that are not empty.

    Raises DataError, with the line, for one that is no number.
    """
    for row, label in enumerate(found.labels(split)):
        if label and as_number(label) is None:
            where = found.tables[split].where(row)
            point = ", with a decimal point" if COMMA.fullmatch(label) else ""
            raise DataError(f"{where}: {found.spec.label_name} is '{short(label)}'; a regression needs numbers{point}.")
        if label:
            yield label


def _said(update: dict[str, Any]) -> str:
    """Write what was read off a label column."""
    if (bounds := update.get("range")) is not None:
        return f"{update['kind']} from {bounds[0]:g} to {bounds[1]:g}"
    classes = update.get("classes")
    if isinstance(classes, tuple):
        more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
        return f"{update['kind']} with the classes {', '.join(classes[:SHOWN])}{more}"
    return f"{update['kind']} with the classes 0 to {classes - 1}" if classes else str(update["kind"])
