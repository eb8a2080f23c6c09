"""Declare: find the tasks of a `tasks.toml`, of a folder with the course's files, or of the demo."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from regkit.base.errors import ConfigError, DataError, explain, nearest
from regkit.base.files import TextPath, read_toml
from regkit.data import demo
from regkit.data.tables import Table, read_table
from regkit.data.target import Target
from regkit.tasks.names import PairMode, Pooling, Split

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
LONGEST_NAME = 64  # characters of a task's name, which is part of file names


class TaskSpec(Target):
    """A task as `tasks.toml` declares it."""

    text: str | tuple[str, str]  # the column of the text, or those of a pair
    id: str | None = None  # the column that names an example in prediction files; without it, the row number
    pair_mode: PairMode | None = None  # cross_encoder unless said otherwise
    pooling: Pooling | None = None  # that of the run unless said otherwise
    batch_size: Annotated[int, Field(ge=1)] | None = None
    train: TextPath | None = None
    dev: TextPath | None = None
    test: TextPath | None = None
    optional: bool = False  # true: trained only if the user names it
    quoting: bool = True  # false: quote characters in CSV and TSV files are plain text

    @model_validator(mode="after")
    def _complete(self) -> "TaskSpec":
        if self.pair_mode and isinstance(self.text, str):
            raise ValueError("pair_mode is for pairs: text needs two columns")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the text columns: one, or two for a pair."""
        return (self.text,) if isinstance(self.text, str) else self.text

    def table(self, split: Split) -> Table | None:
        """Read the rows of a split; return None if the task has no such split."""
        path: Path | None = getattr(self, split)
        columns = [*self.columns, *([self.id] if self.id else [])]
        return read_table(path, quoting=self.quoting, columns=columns) if path else None


class DemoSpec(TaskSpec):
    """A generated task: its tables come from the grammar of `regkit.data.demo`."""

    source: str

    def table(self, split: Split) -> Table:
        rows = demo.table(self.source, split)
        return Table(f"demo:{self.source}-{split}", rows, list(range(1, len(rows) + 1)), unit="row")


SST = {"kind": "classification", "classes": 5, "text": "sentence", "label": "sentiment", "id": "id"}
# The course trains CFIMDB, whose texts are ten times as long, apart from the other three.
CFIMDB = {"kind": "binary", "text": "sentence", "label": "sentiment", "id": "id", "optional": True}
QUORA = {"kind": "binary", "text": ("sentence1", "sentence2"), "label": "is_duplicate", "id": "id"}
STS = {"kind": "regression", "range": (0, 5), "text": ("sentence1", "sentence2"), "label": "similarity", "id": "id"}

# The course's files are recognised by name: of each task how the names of its files begin, and what is in them.
COURSE: dict[str, tuple[str, dict[str, Any]]] = {
    "sst": ("ids-sst", SST),
    "quora": ("quora", QUORA),
    "sts": ("sts", STS),
    "cfimdb": ("ids-cfimdb", CFIMDB),
}
DEMO: dict[str, dict[str, Any]] = {"sentiment": SST, "paraphrase": QUORA, "similarity": STS}


def find_tasks(data: Path | None) -> dict[str, TaskSpec]:
    """Find the tasks that a TOML file or a folder declares; None stands for the demo.

    A folder has a `tasks.toml`, or the course's files. Raises DataError or ConfigError, which names the file.
    """
    if data is None:
        return {name: DemoSpec(source=name, batch_size=16, **spec) for name, spec in DEMO.items()}
    if data.is_file():
        if data.suffix != ".toml":
            raise DataError(f"{data} is no TOML file; --data takes a folder, or a TOML file that declares tasks.")
        return _declared(data)
    if not data.is_dir():
        raise DataError(f"{data} does not exist; --data takes a folder, or a TOML file that declares tasks.")
    if (data / "tasks.toml").is_file():
        return _declared(data / "tasks.toml")
    found = {name: _course(data, prefix, spec) for name, (prefix, spec) in COURSE.items()}
    tasks = {name: task for name, task in found.items() if task.train}
    if not tasks:
        wanted = ", ".join(f"{prefix}-train.csv" for prefix, _ in COURSE.values())
        raise DataError(f"{data} has neither a tasks.toml nor any of the files {wanted}.")
    return tasks


def _course(folder: Path, prefix: str, spec: dict[str, Any]) -> TaskSpec:
    endings = {"train": "train", "dev": "dev", "test": "test-student"}
    files = {split: folder / f"{prefix}-{ending}.csv" for split, ending in endings.items()}
    return TaskSpec.model_validate(spec | {split: path for split, path in files.items() if path.is_file()})


def _declared(path: Path) -> dict[str, TaskSpec]:
    try:
        content = read_toml(path)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    if extra := content.keys() - {"tasks"}:
        raise ConfigError(f"{path} has an unknown table '{sorted(extra)[0]}'; it holds one table [tasks.NAME] a task.")
    tasks = content.get("tasks")
    if not isinstance(tasks, dict) or not tasks:
        raise ConfigError(f"{path} declares no task; it holds one table [tasks.NAME] a task.")
    return {name: _spec(path, name, values) for name, values in tasks.items()}


def _spec(path: Path, name: str, values: object) -> TaskSpec:
    owner = f"{path}: task '{name}'"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ConfigError(f"{owner}: a name is made of letters, digits, _ and -, and begins with a letter.")
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"{owner}: a name has at most {LONGEST_NAME} characters.")
    try:
        if not isinstance(values, dict):
            raise ConfigError(f"{owner} is {values!r}; a table [tasks.NAME] is needed.")
        spec = TaskSpec.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, owner, TaskSpec.model_fields)) from None
    if spec.train is None:
        raise ConfigError(f"{owner} needs 'train', a file of labelled examples.")
    files: dict[str, Path] = {split: path.parent / file for split in SPLITS if (file := getattr(spec, split))}
    return spec.model_copy(update=files)


def choose(tasks: dict[str, TaskSpec], names: list[str] | None) -> dict[str, TaskSpec]:
    """Choose tasks by name, in the order in which they are named.

    Without names, these are all tasks that are not optional, or else all. Raises ConfigError for an unknown name, and
    for an empty list of names.
    """
    if tasks and names == []:
        raise ConfigError(f"tasks is []; name at least one, or leave it out to train all. {nearest('', tasks)}")
    for name in names or ():
        if name not in tasks:
            raise ConfigError(f"there is no task '{name}'. {nearest(name, tasks)}")
    if names:
        return {name: tasks[name] for name in names}
    return {name: task for name, task in tasks.items() if not task.optional} or tasks
