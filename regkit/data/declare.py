"""Declare: find the tasks of a `tasks.toml`, of a folder with the course's files, or of the demo."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from regkit.base.errors import ConfigError, DataError, explain, nearest
from regkit.base.files import TextPath, read_toml
from regkit.data import demo
from regkit.data.tables import Table, first_duplicate, read_table
from regkit.tasks.labels import class_of, yes_or_no
from regkit.tasks.names import PairMode, Pooling, Split
from regkit.tasks.scores import SCORES, a_task

if TYPE_CHECKING:
    from regkit.tasks.objectives import Objective

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
LONGEST_NAME = 64  # characters of a task's name, which is part of file names
NARROWEST = 1e-30  # range of scores; a number divided by a narrower one may be too large for a float
MOST_CLASSES = 1 << 16  # each has a row in the head's weights, whatever the data
Bound = Annotated[float, Field(ge=-1e9, le=1e9)]  # of a score: a float64 of this size has six decimals
Weights = Literal["balanced"] | tuple[float, ...] | dict[str, float]  # of classes, in their order or by name
OF_COLUMNS = ("multilabel", "soft")  # kinds whose label may be a column for each class


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


class TaskSpec(BaseModel):
    """A task as `tasks.toml` declares it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["classification", "binary", "regression", "multilabel", "ordinal", "soft"]
    text: str | tuple[str, str]  # the column of the text, or those of a pair
    label: str | tuple[str, ...]  # the column of the label, or one for each class of a multilabel or soft task
    id: str | None = None  # the column that names an example in prediction files; without it, the row number
    classes: Annotated[int, Field(ge=2, le=MOST_CLASSES)] | Annotated[tuple[str, ...], Field(min_length=2)] | None = (
        None
    )
    class_weights: Annotated[Weights | None, BeforeValidator(_weights)] = None  # how much each counts in the loss
    metric: str | None = None  # the score that decides which checkpoint is best; each kind has one of its own
    range: tuple[Bound, Bound] | None = None  # lowest and highest score
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
        needed = "range" if self.kind == "regression" else "classes"
        if self.kind != "binary" and getattr(self, needed) is None and isinstance(self.label, str):
            raise ValueError(f"{a_task(self.kind)} needs '{needed}'")
        if wrong := self._wrong_classes() or self._wrong_score():
            raise ValueError(wrong)
        if self.range is not None and not self.range[1] - self.range[0] >= NARROWEST:
            raise ValueError("range needs its lowest value first, and a higher one after it")
        if isinstance(self.classes, tuple) and (twice := first_duplicate(self.classes)) is not None:
            raise ValueError(f"classes names '{twice}' twice")
        if self.pair_mode and isinstance(self.text, str):
            raise ValueError("pair_mode is for pairs: text needs two columns")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the text columns: one, or two for a pair."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def objective(self) -> "Objective":
        """The objective of this kind of task, with its classes or its range."""
        from regkit.tasks.objectives import from_description  # which imports torch

        values: dict[str, Any] = {"kind": self.kind, "names": self.names}
        if self.kind == "regression" and self.range:
            values = {"kind": self.kind, "low": self.range[0], "high": self.range[1]}
        elif self.kind != "binary":
            values["classes"] = self.classes if isinstance(self.classes, int) else len(self.names)
        return from_description(values | ({"metric": self.metric} if self.metric else {}))

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The names of the label columns: one, or one for each class."""
        return (self.label,) if isinstance(self.label, str) else self.label

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes; the columns', where each has one; none, where classes are numbers."""
        if isinstance(self.classes, tuple):
            return self.classes
        return () if isinstance(self.label, str) else self.label

    @property
    def weights(self) -> Literal["balanced"] | tuple[float, ...] | None:
        """The weights as they are declared, one for each class. Raises ValueError if there is one of no class."""
        if not isinstance(self.class_weights, dict):
            return self.class_weights
        count = self.classes if isinstance(self.classes, int) else len(self.names) or 2
        given = {self._place(name, count): weight for name, weight in self.class_weights.items()}
        return tuple(given.get(place, 1.0) for place in range(count))

    def _place(self, name: str, count: int) -> int:
        """Find a class by its name, or by what a label of its may be. Raises ValueError, which names the nearest."""
        try:
            return yes_or_no(name) if self.kind == "binary" and not self.names else class_of(name, count, self.names)
        except ValueError:
            known = self.names or tuple(map(str, range(count)))
            raise ValueError(
                f"class_weights has a weight of '{name}', no class of it. {nearest(name, known)}"
            ) from None

    def _wrong_classes(self) -> str:
        """Say what does not fit about classes and the columns of labels; nothing if all does."""
        several, count = not isinstance(self.label, str), len(self.label_columns)
        if several and self.kind not in OF_COLUMNS:
            return f"{a_task(self.kind)} has one label column; several are for the kinds {' and '.join(OF_COLUMNS)}"
        if several and count < 2:
            return f"{a_task(self.kind)} with label columns needs two or more; one alone is for the kind binary"
        if several and (twice := first_duplicate(self.label_columns)) is not None:
            return f"label names column '{twice}' twice"
        if self.classes is not None and self.kind == "regression":
            return "a regression task has a range, and no classes"
        if self.range is not None and self.kind != "regression":
            return f"{a_task(self.kind)} has classes, and no range"
        classes = len(self.classes) if isinstance(self.classes, tuple) else self.classes
        if several and classes not in (None, count):
            return f"label names {count} columns, and there are {classes} classes"
        if self.kind == "binary" and classes not in (None, 2):
            return "a binary task has two classes, of which the second is yes"
        if self.kind == "ordinal" and classes == 2:
            return "an ordinal task needs three classes or more; two are for the kind binary"
        if self.kind == "multilabel" and self.classes == 2 and not several:
            return "a multilabel task of two classes needs their names"
        return ""

    def _wrong_score(self) -> str:
        """Say what does not fit about class weights and the metric; nothing if all does."""
        if self.metric is not None and self.metric not in SCORES[self.kind]:
            return (
                f"metric is '{self.metric}', no score of {a_task(self.kind)}. {nearest(self.metric, SCORES[self.kind])}"
            )
        if self.class_weights is None:
            return ""
        if self.kind in ("regression", "soft"):
            return f"class_weights are for kinds whose labels are classes, and those of {a_task(self.kind)} are numbers"
        classes = len(self.names) or (2 if self.kind == "binary" else self.classes)
        if classes is None:  # they are read off the training file
            return ""
        weights = self.weights
        if isinstance(weights, tuple) and len(weights) != classes:
            return f"class_weights has {len(weights)} weights, and there are {classes} classes"
        return ""

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
