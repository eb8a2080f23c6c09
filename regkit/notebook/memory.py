"""Memory: write data that is in memory to files, so that a run on it is as any other: resumed, scored, compared."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import tomli_w

from regkit.base.errors import ConfigError, DataError, nearest, short
from regkit.data.bare import HELD_OUT, task_name
from regkit.data.declare import LONGEST_NAME, TaskSpec
from regkit.data.guess import guess_columns
from regkit.tasks.names import Split

FOLDER = Path("runs") / "data"
TASK = "task"  # the name of the task whose data comes without a name
SPLITS: dict[str, Split] = {name: name for name in get_args(Split)} | {"validation": "dev", "valid": "dev"}

Row = Mapping[str, Any]


@dataclass
class Given:
    """What was given for a task: its table for each split, and options as `tasks.toml` has them."""

    name: str
    tables: dict[Split, Any]
    options: dict[str, Any] = field(default_factory=dict)
    columns: Sequence[str] = ()  # of the training table, once it is written


def write_tables(data: Any, folder: Path = FOLDER) -> Path:
    """Write `data` as tables in a folder of its own, named by what is in it; equal data is written once.

    `data` is a table, or a mapping from names of tasks to tables, or to mappings from splits to tables; beside splits, such
    a mapping has options of `tasks.toml`, such as metric. A table is a pair of lists (texts, labels), a DataFrame, a
    `datasets.Dataset`, or a sequence of rows that are mappings. A text may be a pair of texts. Raises DataError or
    ConfigError, which names the task.
    """
    given = _tasks(data)
    unfinished = folder / f".{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        digest = hashlib.sha256()
        for task in given:
            for split, table in task.tables.items():
                digest.update(_write(unfinished, task, split, table))
        if len(given) > 1 or given[0].options:
            declared = tomli_w.dumps({"tasks": {task.name: _declared(task) for task in given}})
            (unfinished / "tasks.toml").write_text(declared, encoding="utf8")
            digest.update(declared.encode())
        names = "-".join(task.name for task in given)[:LONGEST_NAME]
        found = folder / f"{names}-{digest.hexdigest()[:12]}"
        if not found.exists():
            unfinished.rename(found)
        return found
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _tasks(data: Any) -> list[Given]:
    """Sort what was given by task and split."""
    if not isinstance(data, Mapping) or "train" in data:
        return [_given(TASK, data)]
    if not data:
        raise DataError("data is empty; it needs a table for each task, by the task's name.")
    for name in data:
        if not isinstance(name, str) or task_name(name) != name:
            raise DataError(f"data has a task {name!r:.80}, which is no name of one; {task_name(str(name))} would be.")
    return [_given(name, table) for name, table in data.items()]


def _given(name: str, data: Any) -> Given:
    if not isinstance(data, Mapping):
        return Given(name, {"train": data})
    tables = {SPLITS[key]: value for key, value in data.items() if key in SPLITS and not isinstance(value, int | float)}
    options = {key: value for key, value in data.items() if key not in SPLITS or isinstance(value, int | float)}
    known = SPLITS.keys() | TaskSpec.model_fields.keys() - {"columns", "encoding", "quoting"}
    for key in options:
        if key not in known:
            left_out = "; leave it out of the mapping" if hasattr(options[key], "column_names") else ""  # of datasets
            raise DataError(f"task '{name}' has no split or option {key!r}{left_out}. {nearest(str(key), known)}")
    if "train" not in tables:
        raise DataError(f"task '{name}' has no train split.")
    return Given(name, tables, options)


def _declared(task: Given) -> dict[str, Any]:
    """Declare a task as `tasks.toml` does, with the usual columns where none are named."""
    named: Any = task.options.get("text")
    labels: Any = task.options.get("label")
    try:
        text, label = guess_columns(
            task.name,
            task.columns,
            [named] if isinstance(named, str) else named,
            str(labels[0]) if isinstance(labels, list | tuple) and labels else labels,
        )
    except ConfigError:  # which would ask for options that all tasks share
        form = f'"{task.name}": {{"train": table, "text": COLUMN, "label": COLUMN}}'
        columns = ", ".join(short(column) for column in task.columns)
        raise ConfigError(f"task '{task.name}': name its columns, {form}. Available: {columns}.") from None
    files = {split: f"{task.name}-{split}.jsonl" for split in task.tables}
    values = {"text": text[0] if len(text) == 1 else list(text), "label": label, "skip_empty": True, "dev": HELD_OUT}
    return values | files | task.options


def _write(folder: Path, task: Given, split: Split, table: Any) -> bytes:
    """Write a table as JSON lines, and return a digest of its name and content."""
    path, owner = folder / f"{task.name}-{split}.jsonl", f"task '{task.name}', {split}"
    digest = hashlib.sha256(path.name.encode())
    with path.open("wb") as file:
        for number, row in enumerate(_rows(owner, table)):
            if split == "train":
                task.columns = task.columns or list(row)
            line = _line(f"{owner}, row {number}", row)
            file.write(line)
            digest.update(line)
    return digest.digest()


def _line(owner: str, row: Row) -> bytes:
    """Write a row as a line of JSON. Raises DataError, which names the value that has no place there."""
    try:
        return _json(row) + b"\n"
    except (TypeError, ValueError):
        column, value = next((each for each in row.items() if not _fits(*each)), ("a name", [*row]))
        needed = "text that UTF-8 holds, a finite number, a list of these, or None is needed"
        raise DataError(f"{owner}: {short(column)} is {short(repr(value))}; {needed}.") from None


def _fits(column: str, value: Any) -> bool:
    try:
        return bool(_json({column: value}))
    except (TypeError, ValueError):
        return False


def _json(value: Row) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False).encode()


def _rows(owner: str, table: Any) -> Iterator[Row]:
    """Iterate over the rows of a table of any of the forms that are taken."""
    if isinstance(table, tuple) and len(table) == 2:
        yield from _paired(owner, _ordered(f"{owner}: texts", table[0]), _ordered(f"{owner}: labels", table[1]))
    elif hasattr(table, "features") and hasattr(table, "column_names"):  # of datasets
        if not hasattr(table, "__len__"):
            raise DataError(f"{owner} is a stream, which may have no end: take rows of it by list(data.take(10_000)).")
        yield from _named_classes(table)
    elif hasattr(table, "to_dicts"):  # of polars
        yield from table.to_dicts()
    elif hasattr(table, "to_dict") and hasattr(table, "columns"):  # of pandas
        yield from (_without_missing(row) for row in table.to_dict("records"))
    elif isinstance(table, Sequence) and not isinstance(table, str) and all(isinstance(row, Mapping) for row in table):
        yield from table
    else:
        needed = "(texts, labels), a DataFrame, a datasets.Dataset or a list of rows is needed"
        raise DataError(f"{owner} is of type {type(table).__name__}; {needed}{_remedy(table)}.")


def _remedy(table: Any) -> str:
    """Say how to hand over what newcomers have in a form that is not taken."""
    if isinstance(table, str | Path):
        return f"; a file is all the data, regkit.train({str(table)!r}), or a task of a tasks.toml"
    of_tuples = isinstance(table, Sequence) and table and isinstance(table[0], tuple)
    if isinstance(table, zip) or of_tuples:
        return "; of pairs of a text and its label, that is tuple(zip(*table))"
    return ""


def _ordered(owner: str, values: Any) -> list[Any]:
    """List values that come in an order of their own. Raises DataError for a set, a text or a mapping."""
    kind = type(values).__name__
    if isinstance(values, set | frozenset):
        raise DataError(f"{owner} are a {kind}, which has no order: the labels would go to other texts; give a list.")
    if isinstance(values, str | bytes | Mapping):
        raise DataError(f"{owner} are a {kind}; a list is needed.")
    try:
        return list(values)
    except TypeError:  # it cannot be iterated over, as a number or an array without dimensions
        raise DataError(f"{owner} are of type {kind}; a list is needed.") from None


def _paired(owner: str, texts: Sequence[Any], labels: Sequence[Any]) -> Iterator[Row]:
    if len(texts) != len(labels):
        raise DataError(f"{owner} has {len(texts)} texts and {len(labels)} labels.")
    first = None
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        sides = _sides(text)
        if not sides:
            raise DataError(f"{owner}, text {number} is {text!r:.60}; a str is needed, or a pair of them.")
        first = first or len(sides)
        if len(sides) != first:
            kinds = {1: "a str", 2: "a pair"}
            raise DataError(f"{owner}, text {number} is {kinds[len(sides)]}, and text 0 is {kinds[first]}.")
        yield {**sides, "label": label}


def _sides(text: Any) -> dict[str, str]:
    """Name the columns of one text, or of the two of a pair; none if it is neither."""
    if isinstance(text, str):
        return {"text": text}
    parts = text.tolist() if hasattr(text, "tolist") else text  # of an array
    if isinstance(parts, list | tuple) and len(parts) == 2 and all(isinstance(part, str) for part in parts):
        return {"text1": parts[0], "text2": parts[1]}
    return {}


def _named_classes(data: Any) -> Iterator[Row]:
    """Iterate over a data set's rows, with the names of classes in place of their numbers."""
    names = {column: kind.names for column, kind in data.features.items() if hasattr(kind, "names")}
    for row in islice(data, len(data)):
        for column, known in names.items():
            if isinstance(row[column], int):
                row[column] = known[row[column]] if row[column] >= 0 else None  # -1: no label
        yield row


def _without_missing(row: Row) -> Row:
    return {str(name): None if value != value else value for name, value in row.items()}


def _plain(value: Any) -> Any:
    """Convert numbers and arrays of numpy, torch and pandas to plain ones, and dates to text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} is no text, number or list")
