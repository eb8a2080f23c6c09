"""Look: find out what files hold, and write the `tasks.toml` that says so."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from regkit.base.errors import DataError, RegkitError, short
from regkit.base.wording import printable
from regkit.data.bare import Files, Given, declare_table, name_of, sort_files, split_table, tables_in
from regkit.data.declare import SPLITS, TaskSpec
from regkit.data.formats.columnar import is_saved
from regkit.data.formats.hub import on_hub
from regkit.data.formats.records import first_duplicate
from regkit.data.prepare import prepare
from regkit.data.prepared import Prepared
from regkit.data.rows import check_texts
from regkit.data.tables import Table, is_pattern
from regkit.data.usual import IDS

EXAMPLES = 3  # rows of each task that are shown
SHOWN = 20  # columns that are named
WRITTEN = ("kind", "text", "label", "classes", "range", "train", "dev", "test", "skip_empty", "id")


@dataclass
class Seen:
    """What was found of one task: its rows and how it is declared, or why it cannot be."""

    name: str
    files: Files
    found: Prepared | None = None
    trouble: str = ""

    def lines(self) -> list[str]:
        """Describe the task for the user, a line each."""
        if self.found is None:
            listed = ", ".join(path.name for paths in self.files.values() for path in paths)
            return [f"{self.name} ({listed}): {self.trouble}"]
        described = [f"  {split}: {_described(table)}" for split, table in self.found.tables.items()]
        return [f"task {self.name}", *described, *(f"  {note}" for note in self.found.notes)]

    def toml(self, folder: Path) -> str:
        """Write the task's table of a `tasks.toml` in this folder, with its first rows as comments."""
        if self.found is None:
            return _commented([f"{self.name}: {self.trouble}"])
        values = {name: _plain(getattr(self.found.spec, name), folder) for name in WRITTEN}
        given = {name: value for name, value in values.items() if value is not None and value is not False}
        if self.found.spec.held_out and "dev" not in self.found.tables:
            given["dev"] = 0  # none could be made
        examples = _commented([*self.found.notes, *_examples(self.found)])
        return f"[tasks.{self.name}]\n{examples}{tomli_w.dumps(given)}"


def look(places: Sequence[Path], given: Given | None = None) -> list[Seen]:
    """Find the tasks that files and folders hold. Raises DataError if they hold no table.

    What is `given` counts for each table; one that lacks a column that is named says so.
    """
    found = [Seen(name, files) for name, files in _tasks(places).items()]
    for seen in found:
        files: Files = seen.files if "train" in seen.files else {"train": next(iter(seen.files.values()))}
        try:
            prepared = _read(declare_table(files, given or Given()))
            for table in prepared.tables.values():
                check_texts(prepared.spec.text_columns, table)
            seen.found = prepared
        except RegkitError as error:
            seen.trouble = str(error)
    if not found:
        raise DataError(f"{places[0]} has no tables.")
    if len(found) == 1 and found[0].found is None:
        raise DataError(found[0].trouble)
    return found


def declaration(found: Iterable[Seen], folder: Path) -> str:
    """Write the `tasks.toml` of these tasks, whose paths start at the folder."""
    head = "# Written by regkit data: what it found and guessed. Look it through, and change what is wrong.\n"
    return "\n".join([head, *(seen.toml(folder) for seen in found)])


def _tasks(places: Sequence[Path]) -> dict[str, Files]:
    """Sort the places into tasks.

    A saved data set and one of the Hub are one task; files of a task belong together.
    """
    found: dict[str, Files] = {}
    files: list[Path] = []
    for place in places:
        if on_hub(place) or is_saved(place) or is_pattern(place):
            found[name_of(place)] = split_table(place)
        elif place.is_dir():
            files += tables_in(place)
        elif place.exists():
            files.append(place)
        else:
            raise DataError(f"{place} does not exist.")
    return found | sort_files(files)


def _described(table: Table) -> str:
    columns = ", ".join(short(each) for each in table.columns[:SHOWN] if each)
    return f"{table.name}, {table.form}; {len(table.rows)} rows; columns {columns}"


def _read(spec: TaskSpec) -> Prepared:
    """Read a task, with ids where a column has the usual name of such and names each row."""
    found = prepare(spec)
    first, *others = found.tables.values()
    taken = {*found.spec.text_columns, *found.spec.label_columns}
    for column in first.columns:
        if column.lower() in IDS and column not in taken and all(column in each.columns for each in others):
            named = prepare(spec.model_copy(update={"id": column}))
            if all(_names_rows(column, table) for table in named.tables.values()):
                return named
    return found


def _names_rows(column: str, table: Table) -> bool:
    """Whether no value of a column is empty, and none stands twice."""
    values = [row.get(column, "") for row in table.rows.columns([column])]
    return all(value.strip() for value in values) and first_duplicate(values) is None


def _examples(found: Prepared) -> Iterator[str]:
    """Show the first rows: texts and label."""
    table = next(found.tables[split] for split in SPLITS if split in found.tables)
    yield "such as"
    for row in table.rows[:EXAMPLES]:
        texts = [row.get(column, "") for column in found.spec.text_columns]
        yield f"  {found.spec.label_of(row)}: {' | '.join(map(short, texts))}"


def _commented(lines: Iterable[str]) -> str:
    return "".join(f"# {printable(' '.join(line.split()))}\n" for line in lines)


def _from(folder: Path, path: Path) -> Path:
    """Write a path as it starts at a folder, if it leads below it."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def _plain(value: Any, folder: Path) -> Any:
    """Write a value as TOML takes it; of several files, a list."""
    if isinstance(value, Path):
        return str(value if on_hub(value) else _from(folder.absolute(), value.absolute()))
    if isinstance(value, tuple):
        plain = [_plain(each, folder) for each in value]
        return plain[0] if len(plain) == 1 and isinstance(value[0], Path) else plain
    return value
