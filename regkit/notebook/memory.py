"""Memory: write data that is in memory to files, so that a run on it is as any other: resumed, scored, compared."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import tomli_w

from regkit.base.errors import DataError, nearest
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
    known = [*SPLITS, *(set(TaskSpec.model_fields) - {"train", "test", "columns", "encoding", "quoting"})]
    for key in options:
        if key not in known:
            raise DataError(f"task '{name}' has no split or option {key!r}. {nearest(str(key), known)}")
    if "train" not in tables:
        raise DataError(f"task '{name}' has no train split.")
    return Given(name, tables, options)


def _declared(task: Given) -> dict[str, Any]:
    """Declare a task as `tasks.toml` does, with the usual columns where none are named."""
    named: Any = task.options.get("text")
    labels: Any = task.options.get("label")
    text, label = guess_columns(
        f"task '{task.name}'",
        task.columns,
        [named] if isinstance(named, str) else named,
        str(labels[0]) if isinstance(labels, list | tuple) and labels else labels,
    )
    files = {split: f"{task.name}-{split}.jsonl" for split in task.tables}
    values = {"text": text[0] if len(text) == 1 else list(text), "label": label, "skip_empty": True, "dev": HELD_OUT}
    return values | files | task.options


def _write(folder: Path, task: Given, split: Split, table: Any) -> bytes:
    """Write a table as JSON lines, and return a digest of its name and content."""
    path, owner = folder / f"{task.name}-{split}.jsonl", f"task '{task.name}', {split}"
    digest = hashlib.sha256(path.name.encode())
    with path.open("wb") as file:
        for row in _rows(owner, table):
            if split == "train":
                task.columns = task.columns or list(row)
            try:
                line = json.dumps(row, ensure_ascii=False, default=_plain, allow_nan=False).encode() + b"\n"
            except (TypeError, ValueError) as error:
                raise DataError(f"{owner}: a row cannot be written as JSON: {error}.") from None
            file.write(line)
            digest.update(line)
    return digest.digest()


def _rows(owner: str, table: Any) -> Iterator[Row]:
    """Iterate over the rows of a table of any of the forms that are taken."""
    if isinstance(table, tuple) and len(table) == 2:
        yield from _paired(owner, *table)
    elif hasattr(table, "features") and hasattr(table, "column_names"):  # of datasets
        yield from _named_classes(table)
    elif hasattr(table, "to_dicts"):  # of polars
        yield from table.to_dicts()
    elif hasattr(table, "to_dict") and hasattr(table, "columns"):  # of pandas
        yield from (_without_missing(row) for row in table.to_dict("records"))
    elif isinstance(table, Sequence) and not isinstance(table, str) and all(isinstance(row, Mapping) for row in table):
        yield from table
    else:
        needed = "(texts, labels), a DataFrame, a datasets.Dataset or a list of rows is needed"
        raise DataError(f"{owner} is of type {type(table).__name__}; {needed}.")


def _paired(owner: str, texts: Iterable[Any], labels: Iterable[Any]) -> Iterator[Row]:
    texts, labels = list(texts), list(labels)
    if len(texts) != len(labels):
        raise DataError(f"{owner} has {len(texts)} texts and {len(labels)} labels.")
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        if isinstance(text, str):
            yield {"text": text, "label": label}
        elif isinstance(text, Sequence) and [type(part) for part in text] == [str, str]:
            yield {"text1": text[0], "text2": text[1], "label": label}
        else:
            raise DataError(f"{owner}, text {number} is {text!r:.60}; a str is needed, or a pair of them.")


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
