"""Stream: open new texts, in a table or one a line, to read them one after the other; none is held."""

import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

from regkit.base.errors import DataError
from regkit.base.files import check_plain
from regkit.data.bare import PACKED
from regkit.data.formats.columnar import is_saved, saved_splits
from regkit.data.formats.decode import LONGEST_LINE, Text, find_text
from regkit.data.formats.objects import BEGINS_JSON
from regkit.data.formats.signatures import BEGIN, columnar
from regkit.data.tables import find_files, is_pattern, open_source
from regkit.tasks.reading import Layout

Columns = Collection[Sequence[str]]  # those of each task

TEXT = "text"  # what the one column of lines is called
STDIN = "standard input"
CONVERT = "save it as UTF-8"  # of lines, whose encoding nothing declares
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
    """Texts that stand one a line. A blank line is an empty text, but at the end, where it is none."""

    form = "one text a line"
    columns: Sequence[str] = (TEXT,)
    unit = "line"

    def __init__(self, name: str, lines: Iterator[str], notes: Sequence[str] = ()) -> None:
        self.name, self._lines, self._notes = name, lines, notes

    def records(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
        blank: list[int] = []
        for number, line in enumerate(self._lines, 1):
            text = line.rstrip("\r\n")
            if not text.strip():
                blank.append(number)
                continue
            for each in blank:
                yield each, {TEXT: ""}
            blank.clear()
            yield number, {TEXT: text}

    def notes(self) -> Sequence[str]:
        return self._notes


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
    if file is None or file.is_fifo():  # a program's output, as a shell's <(...) hands it over
        name, opened = (STDIN, nullcontext(sys.stdin.buffer)) if file is None else (str(file), file.open("rb"))
        with opened as pipe, _from_pipe(pipe, name, readable, layout, lines, table) as piped:
            yield piped
        return
    if is_pattern(file) or is_saved(file):
        yield Files([_open_table(each, layout) for each in _parts(file)])
        return
    try:
        check_plain(file)
        is_table = not lines and (table or _holds_table(file, readable))
        guessed = is_table and not table and _ending(file) in EITHER
        with _or_lines(guessed):
            stream: Stream = _open_table(file, layout) if is_table else _open_lines(file)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist.") from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{file} cannot be read: {said.rstrip('.')}.") from None
    with _or_lines(guessed):
        yield stream


@contextmanager
def _or_lines(guessed: bool) -> Iterator[None]:
    """Let an error about what was taken for a table by its looks alone say how lines are read."""
    try:
        yield
    except DataError as error:
        if guessed:
            error.remedy = "By its first line, this is a table; --lines reads one text a line."
        raise


@contextmanager
def _from_pipe(
    pipe: BinaryIO, name: str, readable: Columns, layout: Layout, lines: bool, table: bool
) -> Iterator[Stream]:
    """Open a pipe. A table is copied to the disk first, because what reads tables looks twice."""
    found = _pieces(pipe)
    first = next(found, b"")
    begin = first.decode("utf-8-sig", errors="replace")
    if lines or not first or not (table or _is_table(begin, readable)):
        yield Lines(name, _decoded(chain([first] if first else [], found)))
        return
    with tempfile.TemporaryDirectory(prefix="regkit-") as folder:
        copy = Path(folder, "stdin")
        with copy.open("wb") as written:
            written.write(first)
            shutil.copyfileobj(pipe, written)
        with _or_lines(not table):
            try:
                source = _open_table(copy, layout)
            except DataError as error:
                raise DataError(str(error).replace(str(copy), name)) from None
            source.name = name
            yield source


def _parts(place: Path) -> Sequence[Path]:
    """List the files of a pattern or of a saved data set. Raises DataError for one of several splits."""
    if is_saved(place) and "" not in (splits := saved_splits(place)):
        raise DataError(f"{place} has the splits {', '.join(splits)}; name the folder of one of them.")
    return find_files([place])


def _open_table(file: Path, layout: Layout) -> Stream:
    return open_source(file, quoting=layout.quoting, encoding=layout.encoding, names=layout.names)


def _holds_table(file: Path, readable: Columns) -> bool:
    """Tell whether a file holds a table, by its ending, or else by how it begins."""
    if _ending(file) not in EITHER:
        return True
    with file.open("rb") as opened:
        if columnar(opened.read(BEGIN)):
            return True
    return _is_table(find_text(file, remedy=CONVERT).begin.partition("\n")[0], readable)


def _ending(file: Path) -> str:
    """Read the ending of a file, below that of what packs it."""
    endings = [each.lower() for each in file.suffixes]
    if endings and endings[-1] in PACKED:
        endings.pop()
    return endings[-1] if endings else ""


def _is_table(first: str, readable: Columns) -> bool:
    """Tell by its first line whether a file is a table that can be read."""
    text = first.strip()
    if BEGINS_JSON.match(text):
        return True
    fields = {field.strip().strip('"') for field in re.split(r"[\t,;|]", text)}
    return any(fields.issuperset(columns) for columns in readable)


def _open_lines(file: Path) -> Lines:
    """Open a file of texts, packed or not, in its own encoding."""
    text = find_text(file, remedy=CONVERT)
    return Lines(str(file), _lines_of(text), text.notes)


def _lines_of(text: Text) -> Iterator[str]:
    with text.open(newline="\n") as opened:
        yield from opened


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    """Decode lines of standard input. Raises DataError, which names the line."""
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise DataError(f"{STDIN}, line {number}: it is longer than {LONGEST_LINE >> 20} MiB.")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = f"byte {error.object[error.start]:#04x}"
            raise DataError(
                f"{STDIN}, line {number}: {byte} is not UTF-8 text; a file is read in its encoding."
            ) from None


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream.

    One that is longer than a line may be comes in part: it takes no more memory.
    """
    while line := stream.readline(LONGEST_LINE + 1):
        yield line
