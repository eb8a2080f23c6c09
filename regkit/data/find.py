"""Find: the tasks of a `tasks.toml`, a folder, bare tables, or the demo."""

from pathlib import Path
from typing import Any

from regkit.base.errors import ConfigError, DataError, nearest
from regkit.data.bare import Given, declare_table, name_of, names_split, sort_files, split_table, tables_in
from regkit.data.declare import DemoSpec, TaskSpec, read_declaration
from regkit.data.formats.columnar import is_saved
from regkit.data.formats.hub import on_hub
from regkit.data.formats.records import first_duplicate
from regkit.data.tables import is_pattern

ROWS_MISSING = {"skip_empty": True}  # the course's own files have rows without label or text, which its loader skips
SST = {"kind": "classification", "classes": 5, "text": "sentence", "label": "sentiment", "id": "id", **ROWS_MISSING}
# The course trains CFIMDB, whose texts are ten times as long, apart from the other three.
CFIMDB = {"kind": "binary", "text": "sentence", "label": "sentiment", "id": "id", "optional": True, **ROWS_MISSING}
PAIR = {"text": ("sentence1", "sentence2"), "id": "id", **ROWS_MISSING}
QUORA = {"kind": "binary", "label": "is_duplicate", **PAIR}
STS = {"kind": "regression", "range": (0, 5), "label": "similarity", **PAIR}

# The course's files are recognised by name: of each task how the names of its files begin, and what is in them.
COURSE: dict[str, tuple[str, dict[str, Any]]] = {
    "sst": ("ids-sst", SST),
    "quora": ("quora", QUORA),
    "sts": ("sts", STS),
    "cfimdb": ("ids-cfimdb", CFIMDB),
}
DEMO: dict[str, dict[str, Any]] = {"sentiment": SST, "paraphrase": QUORA, "similarity": STS}
TAKES = "--data takes a table, a folder, or a TOML file that declares tasks"


def find_tasks(data: Path | None, given: Given | None = None) -> dict[str, TaskSpec]:
    """Find the tasks that a TOML file, a folder or a table declares; None stands for the demo.

    A folder has a `tasks.toml`, the course's files, or tables called after their splits; `given` says what a table itself
    does not. Raises DataError or ConfigError, which names the file.
    """
    given = Given() if given is None else given
    declared = None if data is None else _declaration(data)
    if given and (data is None or declared):
        raise ConfigError(
            f"--{given.said} is for a table without a declaration; {declared or 'the demo'} declares its tasks."
        )
    if data is None:
        return {name: DemoSpec(source=name, batch_size=16, **spec) for name, spec in DEMO.items()}
    if declared:
        return read_declaration(declared)
    if on_hub(data) or data.is_file() or is_saved(data) or is_pattern(data):
        return {given.call(name_of(data)): declare_table(split_table(data), given)}
    if not data.is_dir():
        raise DataError(f"{data} {'is neither a file nor a folder' if data.exists() else 'does not exist'}; {TAKES}.")
    return _in_folder(data, given)


def is_table(data: Path) -> bool:
    """Tell whether data is one table, and not a folder or file that declares tasks."""
    return data.suffix != ".toml" and (data.is_file() or is_pattern(data))


def _declaration(data: Path) -> Path | None:
    """Find the file that declares the tasks of the data; None if there is none."""
    if data.is_file():
        return data if data.suffix == ".toml" else None
    return data / "tasks.toml" if (data / "tasks.toml").is_file() else None


def _in_folder(folder: Path, given: Given) -> dict[str, TaskSpec]:
    course = {name: _course(folder, prefix, spec) for name, (prefix, spec) in COURSE.items()}
    tasks = {name: task for name, task in course.items() if task.train}
    if tasks and not given:
        return tasks
    tables = tables_in(folder) or tables_in(folder / "data")  # as in a clone from the Hub
    found = {name: files for name, files in sort_files(filter(names_split, tables)).items() if "train" in files}
    if not found:
        wanted = ", ".join(f"{prefix}-train.csv" for prefix, _ in COURSE.values())
        raise DataError(f"{folder} has neither a tasks.toml nor any of the files {wanted}, nor a table called train.")
    if len(found) > 1:
        raise DataError(
            f"{folder} has tables of several tasks, {', '.join(found)}: name one by --data, or declare them in a "
            f"tasks.toml, which 'regkit data {folder}' writes."
        )
    return {given.call(name): declare_table(files, given) for name, files in found.items()}


def _course(folder: Path, prefix: str, spec: dict[str, Any]) -> TaskSpec:
    endings = {"train": "train", "dev": "dev", "test": "test-student"}
    files = {split: folder / f"{prefix}-{ending}.csv" for split, ending in endings.items()}
    return TaskSpec.model_validate(spec | {split: path for split, path in files.items() if path.is_file()})


def choose(tasks: dict[str, TaskSpec], names: list[str] | None) -> dict[str, TaskSpec]:
    """Choose tasks by name, in the order in which they are named.

    Without names, these are all tasks that are not optional, or else all. Raises ConfigError for a name that is unknown
    or twice there, and for an empty list of names.
    """
    if tasks and names == []:
        raise ConfigError(f"tasks is []; name at least one, or leave it out to train all. {nearest('', tasks)}")
    for name in names or ():
        if name not in tasks:
            raise ConfigError(f"there is no task '{name}'. {nearest(name, tasks)}")
    if (twice := first_duplicate(names or ())) is not None:
        raise ConfigError(f"tasks names '{twice}' twice; leave one of them out.")
    if names:
        return {name: tasks[name] for name in names}
    return {name: task for name, task in tasks.items() if not task.optional} or tasks
