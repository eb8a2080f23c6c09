"""Memory: write data that is in memory to files, so that a run on it is as any other."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import tomli_w

from regkit.base.errors import ConfigError, DataError, nearest, short
from regkit.base.hidden import hidden
from regkit.data.bare import HELD_OUT, task_name
from regkit.data.declare import LONGEST_NAME, TaskSpec
from regkit.data.guess import guess_columns
from regkit.notebook.rows import Row, rows_of
from regkit.tasks.names import Split

FOLDER = Path("runs") / "data"
TASK = "task"  # the name of the task whose data comes without a name
SPLITS: dict[str, Split] = {name: name for name in get_args(Split)} | {"validation": "dev", "valid": "dev"}


@dataclass
class Given:
    """What was given for a task: its table for each split, and options as `tasks.toml` has them."""

    name: str
    tables: dict[Split, Any]
    options: dict[str, Any] = field(default_factory=dict)
    columns: Sequence[str] = ()  # of the training table, once it is written


def write_tables(data: Any, folder: Path = FOLDER, chosen: object = None) -> Path:
    """Write `data` as tables in a folder of its own, named by what is in it; equal data is written once.

    `data` is a table, or a mapping from names of tasks to tables, or to mappings from splits to tables; beside splits, such
    a mapping has options of `tasks.toml`, such as metric. A table is a pair of lists (texts, labels), a DataFrame, a
    `datasets.Dataset`, or a sequence of rows that are mappings. A text may be a pair of texts. `chosen` are the tasks to
    train, of which one names a table that comes without a name. Raises DataError or ConfigError, which names the task.
    """
    given = _tasks(data)
    _check_chosen(given, chosen)
    unfinished = hidden(folder / "tables")
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


def _check_chosen(given: Sequence[Given], chosen: object) -> None:
    """Raise ConfigError for a task to train that is none of those that were given by name."""
    names = [task.name for task in given]
    others = [each for each in chosen if each not in names] if isinstance(chosen, list) and names != [TASK] else []
    if others:
        raise ConfigError(f"there is no task '{others[0]}'. {nearest(str(others[0]), names)}")


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
        columns = ", ".join(short(column) for column in task.columns) or "none"
        raise ConfigError(f"task '{task.name}': name its columns, {form}. Available: {columns}.") from None
    files = {split: f"{task.name}-{split}.jsonl" for split in task.tables}
    values = {"text": text[0] if len(text) == 1 else list(text), "label": label, "skip_empty": True, "dev": HELD_OUT}
    return values | files | task.options


def _write(folder: Path, task: Given, split: Split, table: Any) -> bytes:
    """Write a table as JSON lines, and return a digest of its name and content."""
    path, owner = folder / f"{task.name}-{split}.jsonl", f"task '{task.name}', {split}"
    digest = hashlib.sha256(path.name.encode())
    with path.open("wb") as file:
        for number, row in enumerate(rows_of(owner, table)):
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
        needed = (
            "text that UTF-8 holds, a finite number, a list of these, or None is needed; leave out what no task reads"
        )
        raise DataError(f"{owner}: {short(column)} is {short(repr(value))}; {needed}.") from None


def _fits(column: str, value: Any) -> bool:
    try:
        return bool(_json({column: value}))
    except (TypeError, ValueError):
        return False


def _json(value: Row) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    """Convert numbers and arrays of numpy, torch and pandas to plain ones, and dates to text."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} is no text, number or list")
