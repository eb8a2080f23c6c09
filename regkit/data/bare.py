"""Bare: declare a task from its tables alone."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from regkit.base.errors import ConfigError, DataError, explain
from regkit.data.declare import LONGEST_NAME, SPLITS, TaskSpec
from regkit.data.formats.columnar import is_saved, saved_splits
from regkit.data.formats.hub import HUB, SPLIT_NAMES, hub_splits, on_hub, usual_split
from regkit.data.formats.records import missing
from regkit.data.guess import guess_columns
from regkit.data.tables import find_files, open_source
from regkit.tasks.names import Split

HELD_OUT = 0.1  # share of the rows that becomes the dev split where none is named
ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".feather")
PACKED = (".gz", ".bz2", ".xz", ".zip")
OTHER_FILES = (
    "readme",
    "license",
    "dataset_info",
    "state.",
    "dataset_dict",
    "requirements",
)  # beside tables, in folders
TAKEN = {"train", "eval", "type", "to", "half", "float", "double", "apply", "forward", *dir(dict)}  # of torch's modules
SHARD = re.compile(r"[-_.]?\d+[-_]of[-_]\d+|[-_.]\d+$")
WORDS = {word: split for split, words in SPLIT_NAMES.items() for word in words}

NUMBER = re.compile(r"(?<!of)[-_.](\d+)$")
Shards = tuple[Path, str, str]  # the folder, the ending, and the stem without the number

Files = dict[Split, tuple[Path, ...]]


@dataclass(frozen=True)
class Given:
    """What the command line says of a table that nothing else declares."""

    text: Sequence[str] | None = None  # the column of the text, or those of a pair
    label: str | None = None
    kind: str | None = None
    dev: Path | float | None = None
    test: Path | None = None
    name: str | None = None  # of the task; without it, that of the file

    def __bool__(self) -> bool:
        return self.said is not None

    @property
    def said(self) -> str | None:
        """The first option that only a bare table has: every other one has a name too."""
        return next((option for option, value in vars(self).items() if value is not None and option != "name"), None)

    def call(self, usual: str) -> str:
        """Name the task: as it is asked for, if a task can be called so."""
        return self.name if self.name and self.name == task_name(self.name) else usual


class TableSpec(TaskSpec):
    """A task that a table alone declares."""

    guesses: tuple[str, ...] = ()
    default_dev: bool = False

    @property
    def remarks(self) -> Sequence[str]:
        return self.guesses

    @property
    def dev_is_default(self) -> bool:
        return self.default_dev


def declare_table(files: Files, given: Given) -> TaskSpec:
    """Declare the task of these files. Raises ConfigError or DataError, which lists the columns."""
    source = open_source(find_files(files["train"])[0])
    if said := missing(source.name, source.columns, [*(given.text or ()), *filter(None, [given.label])], source.hint):
        raise DataError(said)
    text, label = guess_columns(source.name, source.columns, given.text, given.label, source.hint)
    guesses = []
    if given.text is None or given.label is None:
        guesses.append(
            f"guessed by their names: text is {' and '.join(text)}, label is {label}; --text and --label say otherwise"
        )
    guesses += [
        f"not read: the {split} split in {', '.join(path.name for path in files[split])}, because of --{split} {said}"
        for split, said in (("dev", given.dev), ("test", given.test))
        if split in files and said is not None
    ]
    values: dict[str, Any] = {
        "train": files["train"],
        "text": text[0] if len(text) == 1 else text,
        "label": label,
        "kind": given.kind,
        "skip_empty": True,
        "guesses": guesses,
        "default_dev": given.dev is None and "dev" not in files,
        "dev": files.get("dev", HELD_OUT) if given.dev is None else given.dev,
        "test": given.test or files.get("test"),
    }
    try:
        return TableSpec.model_validate(values)
    except ValidationError as error:
        called = {name: f"--{name}" for name in vars(given)}
        raise ConfigError(explain(error, "the command line", TaskSpec.model_fields, called=called)) from None


def split_table(data: Path) -> Files:
    """Find the splits of one table.

    It is a file, a pattern, a folder that `datasets` saved, or a data set of the Hub.
    """
    if on_hub(data):
        names = hub_splits(data)
    elif is_saved(data):
        names = list(saved_splits(data))
    else:
        names = [""]
    if names == [""]:
        return {"train": (data,)}
    found: Files = {split: (data,) for split in SPLITS if usual_split(names, split)}
    if "train" not in found:
        raise DataError(f"{data} has no train split; it has {', '.join(names)}.")
    return found


def tables_in(folder: Path) -> list[Path]:
    """List the files in a folder whose endings are those of tables; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_file() and _is_table(path)]


def names_split(path: Path) -> bool:
    """Tell whether a file is called after a split."""
    return bool(_split_words(SHARD.sub("", _stem(path))))


def sort_files(paths: Iterable[Path]) -> dict[str, Files]:
    """Sort files into tasks and splits: `sst-train.csv`, `sst-dev.csv`.

    A file without a split's name is train.

    Several files are one split only as shards, which differ in their number alone. Others of one name are tasks apart.
    """
    files = list({path.absolute(): path for path in paths}.values())  # each once
    found: dict[str, dict[Split, list[Path]]] = defaultdict(lambda: defaultdict(list))
    owners: dict[tuple[str, Split], Shards] = {}
    for path, shards in zip(files, _find_shards(files), strict=True):
        words = _split_words(stem := shards[-1])
        rest = re.sub(rf"[-_. ]*{words[-1]}(?![A-Za-z])[-_. ]*", "-", stem).strip("-") if words else stem
        split = WORDS[words[-1].lower()] if words else "train"
        names = _numbered(task_name(rest or _folder_name(path)))
        name = next(name for name in names if owners.setdefault((name, split), shards) == shards)
        found[name][split].append(path)
    _join_tests(found)
    return {name: {split: tuple(files) for split, files in splits.items()} for name, splits in found.items()}


def _find_shards(paths: Sequence[Path]) -> list[Shards]:
    """Give each file what the shards of its table share.

    Numbers are those of shards if they count up from 0 or 1.
    """
    numbers: dict[Shards, list[int]] = defaultdict(list)
    for path in paths:
        if number := NUMBER.search(_stem(path)):
            numbers[_shards(path)].append(int(number[1]))
    counted = {
        shards
        for shards, found in numbers.items()
        if _split_words(shards[-1]) or sorted(found) in ([*range(len(found))], [*range(1, len(found) + 1)])
    }
    return [
        _shards(path) if not NUMBER.search(_stem(path)) or _shards(path) in counted else (*_place(path), _stem(path))
        for path in paths
    ]


def _shards(path: Path) -> Shards:
    return *_place(path), SHARD.sub("", _stem(path))


def _place(path: Path) -> tuple[Path, str]:
    return path.absolute().parent, path.name.removeprefix(_stem(path))


def _numbered(name: str) -> Iterator[str]:
    """Yield a task's name, and then others like it."""
    yield name
    for number in count(2):
        yield f"{name[: LONGEST_NAME - 4]}_{number}"


def _folder_name(path: Path) -> str:
    """Name a file by its folder, or by the folder above one that is called data."""
    folder = path.absolute().parent
    return folder.parent.name if folder.name == "data" and folder.parent.name else folder.name


def _join_tests(found: dict[str, dict[Split, list[Path]]]) -> None:
    """Let files of only a test split, `sst-test-student.csv`, join the task whose name begins theirs."""
    for name in [name for name, splits in found.items() if set(splits) == {"test"}]:
        owners = [other for other in found if "train" in found[other] and name.startswith(other)]
        if len(owners) == 1 and "test" not in found[owners[0]]:
            found[owners[0]]["test"] = found.pop(name)["test"]


def task_name(place: str) -> str:
    """Make the name of a task from that of a file or a folder."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", place).strip("_-")
    if not name or not name[0].isalpha() or name in TAKEN:
        name = f"task_{name}".rstrip("_")
    return name[:LONGEST_NAME]


def name_of(data: Path) -> str:
    """Name the task of one table by its file, or by its folder if the file is called as a split is."""
    if on_hub(data):
        return task_name(str(data).removeprefix(HUB).split("/")[-1])
    return next(iter(sort_files([data])))


def _split_words(stem: str) -> list[str]:
    return [word for word in re.split(r"[^A-Za-z]+", stem) if word.lower() in WORDS]


def _stem(path: Path) -> str:
    name = path.name
    for ending in (*PACKED, *ENDINGS):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name


def _is_table(path: Path) -> bool:
    name = path.name.lower()
    for ending in PACKED:
        name = name.removesuffix(ending)
    return name.endswith(ENDINGS) and not name.startswith((".", *OTHER_FILES))
