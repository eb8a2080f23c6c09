"""Prepare: from the files of a task to the rows that it is trained and scored on."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from regkit.data.complete import complete
from regkit.data.declare import SPLITS, TaskSpec
from regkit.data.dev_split import make_dev
from regkit.data.prepared import Prepared
from regkit.data.repeats import Hashed, number_of
from regkit.data.rows import Choice, is_placeholder
from regkit.data.tables import Table
from regkit.tasks.labels import plain
from regkit.tasks.names import Split


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
        complete(found)
    if spec.held_out and "train" in found.tables:  # also where train alone is wanted: it is what the dev split leaves
        make_dev(found)
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
