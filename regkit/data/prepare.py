"""Prepare: from the files of a task to the rows that it is trained and scored on."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from regkit.base.errors import ConfigError, DataError, explain, short
from regkit.data.declare import SPLITS, TaskSpec
from regkit.data.holdout import hold_out
from regkit.data.labels import (
    COMMA,
    doubtful,
    misfit,
    read_classes,
    read_kind,
    read_members,
    read_order,
    read_range,
)
from regkit.data.repeats import Hashed, number_of
from regkit.data.rows import Choice, is_placeholder
from regkit.data.stored.held import Made
from regkit.data.tables import Table
from regkit.tasks.labels import as_number, fields, plain
from regkit.tasks.names import Split

SHOWN = 12  # classes that a remark names
READERS = {"classification": read_classes, "ordinal": read_order, "multilabel": read_members}  # of a kind's classes
STRATA = {  # by kind: what has the same share in train and in a dev split that is held out
    "classification": "class",
    "binary": "class",
    "ordinal": "class",
    "multilabel": "set of labels",
}


@dataclass
class Prepared:
    """The rows of a task, its declaration with nothing left open, and remarks."""

    spec: TaskSpec
    tables: dict[Split, Table] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unlabelled: set[Split] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)  # labels of `skip` that rows have

    def labels(self, split: Split) -> Sequence[str]:
        """Return the labels of a split, as its table writes them."""
        return Made(self.spec.label_of, self.tables[split].rows.columns(self.spec.label_columns))

    def texts(self, split: Split) -> Sequence[tuple[str, ...]]:
        """Return the texts of a split, one or two a row."""
        columns = self.spec.text_columns
        return Made(partial(_fields, columns), self.tables[split].rows.columns(columns))


def _fields(columns: Sequence[str], row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row.get(column, "") for column in columns)


def prepare(spec: TaskSpec, splits: Iterable[Split] = SPLITS) -> Prepared:
    """Read the rows of these splits, and complete what the task leaves open. Raises DataError.

    The training file is read too where classes are read off it, or the dev split is a part of it.
    """
    wanted = set(splits)
    found = Prepared(spec, notes=list(spec.remarks))
    for split in needed(spec, wanted):
        if (table := spec.table(split)) is not None:
            _add(found, split, table)
    if unknown := [f"'{label}'" for label in spec.skip if label not in found.skipped]:
        found.notes.append(f"no row is labelled {' or '.join(unknown)}, which skip shall leave out")
    if spec.is_open:
        _complete(found)
    if spec.held_out and "train" in found.tables:  # also where train alone is wanted: it is what the dev split leaves
        _make_dev(found)
    _count_repeated(found)
    found.tables = {split: table for split, table in found.tables.items() if split in wanted}
    return found


def needed(spec: TaskSpec, wanted: Collection[Split]) -> list[Split]:
    """List the splits whose files are read for these: train too where others are completed by it."""
    train = spec.is_open or (spec.held_out and "dev" in wanted)
    return [split for split in SPLITS if split in wanted or (split == "train" and train)]


def _add(found: Prepared, split: Split, table: Table) -> None:
    """Add the rows of a split that are chosen, and say how many are not."""
    spec = found.spec
    found.tables[split] = _name_classes(spec, table)
    if split == "test" and (not all(map(table.has, spec.label_columns)) or _is_unlabelled(found)):
        found.unlabelled.add(split)
    label = None if split in found.unlabelled else spec.label_of
    may_be_empty = spec.kind == "multilabel" or split == "test"
    choice = Choice(spec.text_columns, label, spec.skip, spec.skip_empty, may_be_empty, spec.where)
    found.tables[split], said = choice.rows(found.tables[split])
    found.skipped |= choice.matched
    found.notes += [*table.notes, *(f"{split}: {each}" for each in said)]


def _name_classes(spec: TaskSpec, table: Table) -> Table:
    """Write class numbers by the names that the file gives to them, unless the task declares numbers."""
    column = spec.label_columns[0]
    names = table.classes.get(column)
    if not names or spec.kind not in (None, "classification") or isinstance(spec.classes, int):
        return table
    return replace(table, rows=table.rows.called(column, names))


def _is_unlabelled(found: Prepared) -> bool:
    """Tell whether placeholders stand for the labels of the test split, and say so."""
    placeholder = is_placeholder(found.labels("test"))
    if placeholder is None:
        return False
    said = f"'{placeholder}'" if placeholder else "empty"
    found.notes.append(
        f"test: every {found.spec.label_name} is {said}, which stands for no label: it is predicted, not scored"
    )
    return True


def _complete(found: Prepared) -> None:
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
        found.notes += doubtful(read)


def _read_kind(found: Prepared) -> str:
    """Read the kind off the training labels. Raises DataError, with the line, where one tells that it has to be said."""
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


def _make_dev(found: Prepared) -> None:
    """Hold rows of the training split out as the dev split. Raises DataError where none can be."""
    spec, train = found.spec, found.tables["train"]
    total = len(train.rows)
    groups: Iterable[Hashable] = found.texts("train")
    if spec.group:
        groups = (row.get(spec.group, "") for row in train.rows.columns([spec.group]))
    together = f"rows of one {spec.group or 'text'}"
    chosen = hold_out(spec.held_out, _strata(found), groups)
    if not chosen:
        kept = "a row of each class stays in train" if spec.kind in STRATA else "a row stays in train"
        said = f"no dev split can be made of it: {kept}, and {together} stay together"
        if not spec.dev_is_default:
            raise DataError(f"{train.name}: {said}; name a file for dev, or set dev = 0.")
        found.notes.append(f"dev: none; {said}")
        return
    held = bytearray(total)
    for row in chosen:
        held[row] = 1
    found.tables["dev"] = train.only(chosen)
    found.tables["train"] = train.only(row for row in range(total) if not held[row])
    even = f"the same share of each {STRATA[spec.kind]}, " if spec.kind in STRATA else ""
    found.notes.append(
        f"dev: {len(chosen)} of the {total} training rows are held out, {even}{together} together; equal for every seed"
    )


def _strata(found: Prepared) -> Iterator[str]:
    """Tell the stratum of each training row: its class, or one for all where labels are no classes.

    Sets of labels that one row alone has are a stratum together: none of them could be divided.
    """
    if found.spec.kind not in STRATA:
        return ("" for _ in range(len(found.tables["train"].rows)))
    if found.spec.kind != "multilabel":
        return _classes(found)
    counts = Counter(_classes(found))
    return (label if counts[label] > 1 else "" for label in _classes(found))


def _classes(found: Prepared) -> Iterator[str]:
    return (str(plain(label)) for label in found.labels("train"))


def _count_repeated(found: Prepared) -> None:
    """Say how many rows stand twice, and how many dev and test rows have a text of the training split."""
    column = found.spec.id
    for split, table in found.tables.items():
        if column and (count := Hashed((row.get(column, ""), 0, 0) for row in table.rows.columns([column])).repeated()):
            found.notes.append(f"{count} {split} rows have the id of an earlier row")
    if "train" not in found.tables:
        return
    train = Hashed(_labelled(found))
    if count := train.repeated():
        found.notes.append(f"{count} train rows have a text that stands in an earlier row")
        if differ := train.contradicted():
            found.notes.append(f"{differ} train rows have a text that stands with another label in another row")
    for split in [split for split in SPLITS[1:] if split in found.tables]:
        if count := Hashed((texts, 0, 0) for texts in found.texts(split)).shared(train):
            total = len(found.tables[split].rows)
            found.notes.append(f"{count} of {total} {split} rows have a text that is also in train")


def _labelled(found: Prepared) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Iterate over the texts of the training split, each with a number for what its label means."""
    for texts, label in zip(found.texts("train"), map(plain, found.labels("train")), strict=True):
        yield texts, number_of(label + 0.0 if isinstance(label, float) else label), 0  # -0.0 and 0.0 are one label
