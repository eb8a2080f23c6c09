"""Declare: what a task is - its columns, its labels, its files - as a `tasks.toml` says it."""

import codecs
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from regkit.base.errors import ConfigError, explain
from regkit.base.files import TextPath, read_toml
from regkit.data import demo
from regkit.data.formats.hub import on_hub
from regkit.data.formats.records import Value, first_duplicate, text_of
from regkit.data.per_task import by_task
from regkit.data.stored.held import Numbers
from regkit.data.stored.rows import Rows
from regkit.data.tables import Table, find_files, read_table
from regkit.data.target import Target
from regkit.tasks.labels import as_number
from regkit.tasks.names import PairMode, Pooling, Split
from regkit.tasks.reading import Layout

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
NO_TEXT_FILES = ("unicode-escape", "raw-unicode-escape", "idna", "punycode")  # of Python's literals and of host names
UNKNOWN_ENCODING = "no such encoding of text is known; utf-8, utf-16, cp1252 and shift_jis are some that are"
LONGEST_NAME = 64  # characters of a task's name, which is part of file names
Share = Annotated[float, Field(ge=0, lt=1)]
Several = Annotated[tuple[TextPath, ...], Field(min_length=1)]
Files = Annotated[TextPath | Several, Field(union_mode="left_to_right")]


def _as_text(labels: object) -> object:
    """Write labels that are numbers or lists as the text that they are when they are read from JSON.

    A truth value stays one, and is refused: in JSON it reads as 1, and in a CSV file as True.
    """
    if not isinstance(labels, list):
        return labels
    return [
        text_of(each) if isinstance(each, int | float | list) and not isinstance(each, bool) else each
        for each in labels
    ]


def _share(value: object) -> object:
    """Read a share that is written as text, as a command line gives it."""
    number = as_number(value) if isinstance(value, str) else None
    return value if number is None else number


Values = Annotated[tuple[Value, ...], Field(min_length=1)]
Where = Annotated[dict[str, Value | Values], Field(default_factory=dict)]
DevSplit = Annotated[Share | TextPath, BeforeValidator(_share)]  # a file, or the share of train that is held out

PairModes = Annotated[dict[str, PairMode], BeforeValidator(by_task("TASK=MODE, such as sts=bi_encoder"))]


class TaskSpec(Target):
    """A task as `tasks.toml` declares it."""

    text: str | tuple[str, str]  # the column of the text, or those of a pair; a path leads into nested fields
    id: str | None = None  # the column that names an example in prediction files; without it, the row number
    pair_mode: PairMode | None = None  # cross_encoder unless said otherwise
    pooling: Pooling | None = None  # that of the run unless said otherwise
    batch_size: Annotated[int, Field(ge=1)] | None = None
    train: Files | None = None  # a file, a pattern, a folder that `datasets` saved, or several of these
    dev: Annotated[Share | Files | None, BeforeValidator(_share)] = None  # or the share of train that is held out
    test: Files | None = None
    group: str | None = None  # the column whose rows with the same value are all in train, or all in dev
    columns: tuple[str, ...] = ()  # names of the columns, for files without a header
    where: Where  # take only rows with these values in other columns
    skip: Annotated[tuple[str, ...], BeforeValidator(_as_text)] = ()  # leave out rows with these labels
    skip_empty: bool = False  # leave out rows without text or label
    encoding: str | None = None  # of text files; without it, told by their bytes
    optional: bool = False  # true: trained only if the user names it
    quoting: bool = True  # false: quote characters in CSV and TSV files are plain text

    @model_validator(mode="after")
    def _complete(self) -> "TaskSpec":
        if (twice := first_duplicate(self.columns)) is not None:
            raise ValueError(f"columns names '{twice}' twice")
        if (twice := first_duplicate([*self.text_columns, *self.label_columns])) is not None:
            raise ValueError(f"text and label name the column '{twice}' twice; each has a column of its own")
        if self.pair_mode and isinstance(self.text, str):
            raise ValueError("pair_mode is for pairs: text needs two columns")
        if self.group and not self.held_out:
            raise ValueError("group is for a dev split that is made: dev needs a share, such as 0.1")
        return self

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        try:
            found = name and codecs.lookup(name).name
            "".encode(found or "utf-8")  # refuses what turns bytes into bytes, such as zlib and hex
        except (LookupError, ValueError):
            raise ValueError(UNKNOWN_ENCODING) from None
        if found in NO_TEXT_FILES:
            raise ValueError(UNKNOWN_ENCODING)
        return found

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The names of the text columns: one, or two for a pair."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def layout(self) -> Layout:
        """What the task says about its tables that their content does not tell."""
        return Layout(self.quoting, self.encoding, self.columns)

    @property
    def held_out(self) -> float:
        """The share of the training rows that becomes the dev split; 0 if there is another one, or none."""
        return self.dev if isinstance(self.dev, float) else 0.0

    @property
    def remarks(self) -> Sequence[str]:
        """Sentences for the plan about how the task was declared."""
        return ()

    @property
    def dev_is_default(self) -> bool:
        """Whether nobody asked for the dev split: it is made only if it can be."""
        return False

    def files(self, split: Split) -> list[Path] | None:
        """List the files of a split; None if its rows are not in files. Raises DataError."""
        files = getattr(self, split)
        if files is None or isinstance(files, float):
            return []
        places = [files] if isinstance(files, Path) else files
        return None if any(map(on_hub, places)) else find_files(places, split)

    def table(self, split: Split) -> Table | None:
        """Read the rows of a split; return None if the task has no such file."""
        files = getattr(self, split)
        if files is None or isinstance(files, float):
            return None
        others = [each for each in (self.id, self.group if split == "train" else None) if each]
        labelled = [] if split == "test" else [*self.label_columns]  # a test split may lack labels
        return read_table(
            files,
            quoting=self.quoting,
            encoding=self.encoding,
            names=self.columns,
            columns=list(dict.fromkeys([*self.text_columns, *labelled, *others, *self.where])),
            optional=[] if labelled else [*self.label_columns],
            split=split,
        )


class DemoSpec(TaskSpec):
    """A generated task: its tables come from the grammar of `regkit.data.demo`."""

    source: str

    def files(self, split: Split) -> None:
        return None

    def table(self, split: Split) -> Table:
        rows = Rows.of(demo.table(self.source, split))
        return Table(f"demo:{self.source}-{split}", rows, Numbers.of(range(1, len(rows) + 1)), unit="row")


def read_declaration(path: Path) -> dict[str, TaskSpec]:
    """Read the tasks that a TOML file declares. Raises ConfigError, which names file, task and option."""
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
    return spec.model_copy(update={split: below(path.parent, getattr(spec, split)) for split in SPLITS})


def below(folder: Path, files: Any) -> Any:
    """Let paths start at a folder; a share, a data set of the Hub and nothing stay as they are."""
    if isinstance(files, tuple):
        return tuple(below(folder, file) for file in files)
    return folder / files if isinstance(files, Path) and not on_hub(files) else files


def read_again(
    tasks: dict[str, TaskSpec],
    labels: Mapping[str, Mapping[str, Any]],
    pair_modes: Mapping[str, PairMode] = MappingProxyType({}),
) -> dict[str, TaskSpec]:
    """Complete tasks by what was once read off their labels, and by how the settings read their pairs.

    What was read off completes those that leave kind, classes or range open. Raises ConfigError, which names the option.
    """
    found = {
        name: _completed(name, spec, labels[name]) if spec.is_open and name in labels else spec
        for name, spec in tasks.items()
    }
    return found | {name: _reading(name, found[name], mode) for name, mode in pair_modes.items() if name in found}


def _reading(name: str, spec: TaskSpec, mode: PairMode) -> TaskSpec:
    if len(spec.text_columns) != 2:
        raise ConfigError(f"pair_mode: task '{name}' reads one text, and no pair; leave it out.")
    return spec.model_copy(update={"pair_mode": mode})


def _completed(name: str, spec: TaskSpec, values: Mapping[str, Any]) -> TaskSpec:
    try:
        found = TaskSpec.model_validate({"text": spec.text, "label": spec.label, **values})
    except ValidationError as error:
        raise ConfigError(explain(error, f"labels.{name}", TaskSpec.model_fields)) from None
    return spec.model_copy(update={each: getattr(found, each) for each in found.model_fields_set - {"text", "label"}})
