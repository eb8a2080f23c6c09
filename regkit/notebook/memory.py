"""Memory: write data that is in memory to files, so that a run on it is as any other: resumed, scored, compared."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from regkit.base.errors import DataError, nearest
from regkit.data.declare import LONGEST_NAME
from regkit.tasks.names import Split

FOLDER = Path("runs") / "data"
TASK = "task"  # the name of the task whose data comes without a name
SPLITS: dict[str, Split] = {name: name for name in get_args(Split)} | {"validation": "dev", "valid": "dev"}

Row = Mapping[str, Any]


def write_tables(data: Any, folder: Path = FOLDER) -> Path:
    """Write `data` as tables in a folder of its own, named by what is in it; equal data is written once.

    `data` is a table, or a mapping from names of tasks to tables or to mappings from splits to tables. A table is a pair
    of lists (texts, labels), a DataFrame, a `datasets.Dataset`, or a sequence of rows that are mappings. A text may be
    a pair of texts. Raises DataError, which names task and split.
    """
    unfinished = folder / f".{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        digest = hashlib.sha256()
        for name, splits in _tasks(data).items():
            for split, table in splits.items():
                digest.update(_write(unfinished / f"{name}-{split}.jsonl", f"task '{name}', {split}", table))
        found = folder / "-".join([*_tasks(data), digest.hexdigest()[:12]])[-LONGEST_NAME:]
        if not found.exists():
            unfinished.rename(found)
        return found
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _tasks(data: Any) -> dict[str, dict[Split, Any]]:
    """Sort what was given by task and split."""
    if not isinstance(data, Mapping) or _is_splits(data):
        return {TASK: _splits(TASK, data)}
    if not data:
        raise DataError("data is empty; it needs a table for each task, by the task's name.")
    for name in data:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or len(name) > LONGEST_NAME:
            raise DataError(
                f"data has a task {name!r}; a name is made of letters, digits and _, and begins with a letter."
            )
    return {name: _splits(name, table) for name, table in data.items()}


def _is_splits(data: Any) -> bool:
    return isinstance(data, Mapping) and bool(data) and all(name in SPLITS for name in data)


def _splits(name: str, data: Any) -> dict[Split, Any]:
    if not isinstance(data, Mapping):
        return {"train": data}
    for split in data:
        if split not in SPLITS:
            raise DataError(f"task '{name}' has a split {split!r}. {nearest(str(split), SPLITS)}")
    if "train" not in data:
        raise DataError(f"task '{name}' has no train split.")
    return {SPLITS[split]: table for split, table in data.items()}


def _write(path: Path, owner: str, table: Any) -> bytes:
    """Write a table as JSON lines, and return a digest of its name and content."""
    digest = hashlib.sha256(path.name.encode())
    with path.open("wb") as file:
        for row in _rows(owner, table):
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
