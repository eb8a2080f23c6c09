"""Tables: read one file or several as rows of text, and note the line of each row."""

import glob
import sys
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from regkit.base.errors import DataError
from regkit.base.files import check_plain
from regkit.data.formats.columnar import Columnar, is_saved, names_of, saved_files, saved_splits
from regkit.data.formats.decode import find_text
from regkit.data.formats.delimited import Delimited
from regkit.data.formats.hub import HubRows, on_hub, usual_split
from regkit.data.formats.objects import Objects, looks_like_objects
from regkit.data.formats.records import Source, has_column, missing
from regkit.data.formats.signatures import BEGIN, columnar
from regkit.data.stored.flat import Growing
from regkit.data.stored.held import Numbers
from regkit.data.stored.rows import Rows, RowWriter
from regkit.tasks.names import Split

PATTERN = ("*", "?", "[")  # what makes a path a pattern


@dataclass
class Table:
    """The rows of a table. Row i begins in line `lines[i]`, so that an error can say where to look.

    The lines of several files are counted through: those of a file begin after its `parts` number.
    """

    name: str  # of the file or the files, as messages give it
    rows: Rows
    lines: Numbers
    unit: str = "line"  # Parquet has rows, not lines
    columns: Sequence[str] = ()  # all that the file has; its rows may hold only those that were asked for
    parts: Sequence[tuple[int, str]] = ()  # of each of several files: the lines before it, and its name
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by column: the names of class numbers
    notes: Sequence[str] = ()  # what was unusual, a sentence each
    form: str = ""  # what the file was found to be

    def where(self, row: int) -> str:
        """Say where a row is, for a message: the file and the line."""
        line = self.lines[row]
        before, name = (
            self.parts[bisect(self.parts, line - 1, key=lambda part: part[0]) - 1] if self.parts else (0, self.name)
        )
        return f"{name}, {self.unit} {line - before}"

    def has(self, column: str) -> bool:
        """Tell whether the table has a column, or the field in which a path begins."""
        return has_column(self.columns or self.rows.cells, column)

    def only(self, rows: Iterable[int]) -> "Table":
        """Make a table of these rows alone."""
        kept = self.rows.only(rows)
        return replace(self, rows=kept, lines=self.lines.placed(kept.places))

    def number(self, row: int) -> int:
        """Tell the place of a row among all rows of the table, from 0."""
        return self.rows.places[row]

    def require(self, columns: Iterable[str]) -> None:
        """Check that the columns are there. Raises DataError, which names the nearest column."""
        if said := missing(self.name, self.columns or self.rows.cells, columns):
            raise DataError(said)


def read_table(
    place: Path | Sequence[Path],
    *,
    quoting: bool = True,
    encoding: str | None = None,
    names: Sequence[str] = (),
    columns: Sequence[str] = (),
    optional: Sequence[str] = (),
    split: Split = "train",
) -> Table:
    """Read a file, several, those that a pattern matches, or a folder that `datasets` saved.

    What a file is, its content tells. `quoting=False` takes quote characters of delimited files as they stand, and `names`
    are the columns of files without a header. Of the columns only those that are named are kept, and `optional` ones where
    they are; without a name, all are. `split` chooses among those of a saved folder, or of a data set of the Hub. Raises
    DataError, which names file, line and field.
    """
    files = find_files([place] if isinstance(place, Path) else place, split)
    rows, lines, line = RowWriter(), Growing(), 0
    parts: list[tuple[int, str]] = []
    sources: list[Source] = []
    notes: list[str] = []
    for file in files:
        source = open_source(file, quoting=quoting, encoding=encoding, names=names, split=split)
        before = line
        parts.append((before, source.name))
        sources.append(source)
        if said := missing(source.name, source.columns, columns, source.hint):
            raise DataError(said)
        wanted = [*columns, *(each for each in optional if has_column(source.columns, each))]
        for number, row in source.records(wanted or source.columns):
            line = before + number
            rows.add(row)
            lines.write(line.to_bytes(8, sys.byteorder))
        notes += [f"{source.name}: {note}" for note in source.notes()]
    name = str(files[0]) if len(files) == 1 else f"{place if isinstance(place, Path) else files[0]} and others"
    if not len(rows):
        raise DataError(f"{name} has no rows.")
    first = sources[0]
    shared = [column for column in first.columns if all(column in each.columns for each in sources)]
    several = parts if len(files) > 1 else ()
    return Table(
        name,
        rows.finish(),
        Numbers(lines.finish()),
        first.unit,
        shared,
        several,
        names_of([each.classes for each in sources]),
        notes,
        first.form,
    )


def find_files(places: Sequence[Path], split: Split = "train") -> list[Path]:
    """Find the files of paths, patterns and saved folders, in their order.

    Raises DataError if there is none.
    """
    return [file for place in places for file in _files(place, split)]


def is_pattern(place: Path) -> bool:
    """Tell whether a path stands for every file that matches it, and is not itself a file."""
    return not place.exists() and any(sign in str(_parted(place)[1]) for sign in PATTERN)


def _parted(place: Path) -> tuple[Path, Path]:
    """Part a path into the folders that are there, whatever signs their names have, and the rest."""
    folder = next((each for each in place.parents if each.is_dir()), Path())
    return folder, place.relative_to(folder)


def _files(place: Path, split: Split) -> list[Path]:
    if is_saved(place):
        splits = saved_splits(place)
        found = usual_split(list(splits), split)
        if "" in splits:
            return saved_files(place)
        if found is None:
            raise DataError(f"{place} has no {split} split; it has {', '.join(splits)}.")
        return saved_files(splits[found])
    if on_hub(place) or not is_pattern(place):
        return [place]
    folder, pattern = _parted(place)
    matches = sorted(map(Path, glob.glob(str(Path(glob.escape(str(folder)), pattern)), recursive=True)))
    if not matches:
        raise DataError(f"no file matches {place}.")
    return matches


def open_source(
    path: Path,
    *,
    quoting: bool = True,
    encoding: str | None = None,
    names: Sequence[str] = (),
    split: Split = "train",
) -> Source:
    """Open a file as what its content says. Raises DataError if it is no table, or cannot be read."""
    if on_hub(path):
        return HubRows(path, split)
    try:
        check_plain(path)
        with path.open("rb") as file:
            kind = columnar(file.read(BEGIN))
        if kind:
            return Columnar(path, kind)
        text = find_text(path, encoding)
        return Objects(text) if looks_like_objects(text) else Delimited(text, quoting=quoting, names=names)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).rstrip('.')}.") from None
