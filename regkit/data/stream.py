"""Stream: open new texts, in a table or one a line, to read them one after the other; none is held."""

import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from regkit.base.errors import DataError
from regkit.base.files import check_plain
from regkit.data.formats.columnar import is_saved, saved_splits
from regkit.data.formats.decode import LONGEST_LINE
from regkit.data.formats.objects import BEGINS_JSON
from regkit.data.tables import find_files, is_pattern, open_source
from regkit.tasks.reading import Layout

Columns = Collection[Sequence[str]]  # those of each task

TEXT = "text"  # what the one column of lines is called
STDIN = "standard input"
USUAL = Layout()
EITHER = (".txt", "")  # endings of files that hold a table, or one text a line


class Stream(Protocol):
    """New texts that are read one after the other."""

    name: str  # of the file, as messages give it
    form: str  # what it was found to be, for the user
    columns: Sequence[str]
    unit: str  # what is counted in it: lines or rows

    def records(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the line of each record with these columns of it. Raises DataError, which names the line."""
        ...

    def notes(self) -> Sequence[str]:
        """Say what is unusual about the records that were read, a sentence each."""
        ...


class Lines:
    """Texts that stand one a line. Blank lines are an error, but for those at the end."""

    form = "one text a line"
    columns: Sequence[str] = (TEXT,)
    unit = "line"

    def __init__(self, name: str, lines: Iterator[bytes]) -> None:
        self.name, self._lines = name, lines

    def records(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        blank = 0
        for number, line in enumerate(self._lines, 1):
            text = self._text(line, number)
            if not text.strip():
                blank = blank or number
                continue
            if blank:
                raise DataError(f"{self.name}, line {blank}: the text is empty.")
            yield number, {TEXT: text}

    def notes(self) -> Sequence[str]:
        return ()

    def _text(self, line: bytes, number: int) -> str:
        if len(line) > LONGEST_LINE:
            raise DataError(f"{self.name}, line {number}: it is longer than {LONGEST_LINE >> 20} MiB.")
        try:
            return line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            byte = f"byte {error.object[error.start]:#04x}"
            raise DataError(f"{self.name}, line {number}: {byte} is not UTF-8 text.") from None


class Files:
    """Several files that are one table. Its name is that of the file that is read just now."""

    def __init__(self, files: Sequence[Stream]) -> None:
        self.files, first = files, files[0]
        self.name, self.form, self.unit = first.name, f"{len(files)} files, {first.form}", first.unit
        self.columns: Sequence[str] = [
            column for column in first.columns if all(column in each.columns for each in files)
        ]

    def records(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        for file in self.files:
            self.name = file.name
            yield from file.records(columns)

    def notes(self) -> Sequence[str]:
        return [f"{file.name}: {note}" for file in self.files for note in file.notes()]


@contextmanager
def open_stream(
    file: Path | None, readable: Columns, layout: Layout = USUAL, *, lines: bool = False, table: bool = False
) -> Iterator[Stream]:
    """Open a file, or standard input for None, as the table or the lines that it is.

    A file's ending says which. Where it does not, as of .txt and standard input, the first line does: a table has in
    its header all columns of a member of `readable`, or is JSON. `lines` and `table` say it instead. A table is read in
    the `layout` of those that the tasks were trained on. Raises DataError for what is empty or cannot be read.
    """
    if file is None:
        with _from_stdin(readable, layout, lines, table) as piped:
            yield piped
        return
    if is_pattern(file) or is_saved(file):
        yield Files([_open_table(each, layout) for each in _parts(file)])
        return
    try:
        check_plain(file)
        is_table = not lines and (table or file.suffix.lower() not in EITHER or _is_table(_first(file), readable))
        stream: Stream = _open_table(file, layout) if is_table else Lines(str(file), _lines_of(file))
    except FileNotFoundError:
        raise DataError(f"{file} does not exist.") from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{file} cannot be read: {said.rstrip('.')}.") from None
    yield stream


@contextmanager
def _from_stdin(readable: Columns, layout: Layout, lines: bool, table: bool) -> Iterator[Stream]:
    """Open standard input. A table is copied to the disk first, because what reads tables looks twice."""
    found = _pieces(sys.stdin.buffer)
    first = next(found, b"")
    if lines or not first or not (table or _is_table(first, readable)):
        yield Lines(STDIN, chain([first] if first else [], found))
        return
    with tempfile.TemporaryDirectory(prefix="regkit-") as folder:
        copy = Path(folder, "stdin")
        with copy.open("wb") as written:
            written.write(first)
            shutil.copyfileobj(sys.stdin.buffer, written)
        source = _open_table(copy, layout)
        source.name = STDIN
        yield source


def _parts(place: Path) -> Sequence[Path]:
    """List the files of a pattern or of a saved data set. Raises DataError for one of several splits."""
    if is_saved(place) and "" not in (splits := saved_splits(place)):
        raise DataError(f"{place} has the splits {', '.join(splits)}; name the folder of one of them.")
    return find_files([place])


def _open_table(file: Path, layout: Layout) -> Stream:
    return open_source(file, quoting=layout.quoting, encoding=layout.encoding, names=layout.names)


def _is_table(first: bytes, readable: Columns) -> bool:
    """Tell by its first line whether a file is a table that can be read."""
    text = first.decode("utf-8-sig", errors="replace").strip()
    if BEGINS_JSON.match(text):
        return True
    fields = {field.strip().strip('"') for field in re.split(r"[\t,;|]", text)}
    return any(fields.issuperset(columns) for columns in readable)


def _first(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.readline(LONGEST_LINE + 1)


def _lines_of(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        yield from _pieces(opened)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream.

    One that is longer than a line may be comes in part: it takes no more memory.
    """
    while line := stream.readline(LONGEST_LINE + 1):
        yield line
