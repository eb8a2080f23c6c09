"""Delimited: read rows whose fields are parted by tabs, commas, semicolons or bars."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Literal

from regkit.base.errors import DataError, short
from regkit.data.formats.decode import LONGEST_LINE, Text
from regkit.data.formats.records import Record, first_duplicate
from regkit.data.usual import IDS, LABELS, TEXTS

if TYPE_CHECKING:
    import _csv

BARS, UNIT = "|||", "\x1f"  # csv takes delimiters of one character: this one stands for three bars
DELIMITERS = {UNIT: BARS, "\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}  # of two that fit, the first
PARTED = f"fields may be parted by {', '.join(DELIMITERS.values())}"
SEPARATOR = re.compile(r'"?sep=([\t,;|])"?\r?\n')  # a first line by which Excel is told the delimiter
MOST_COLUMNS = 1 << 14  # as many as a spreadsheet has
SAMPLED = 200  # rows that tell the delimiter
TALL = 10  # lines of a row: in a higher one, a quote may have swallowed rows
LONG_NAME, WORDY_NAME = 60, 2  # characters and blanks of a column's name; with more it is rather a text
QUOTES = "if quotes in this file mean nothing, set quoting = false for the task in tasks.toml"


class Delimited:
    """The rows of a delimited file. `names` are its columns if it has no header.

    Raises DataError for a header that cannot be.
    """

    unit = "line"
    classes: Mapping[str, Sequence[str]] = {}

    def __init__(self, text: Text, *, quoting: bool = True, names: Sequence[str] = ()) -> None:
        csv.field_size_limit(LONGEST_LINE)  # csv's own limit, of the whole process, is 128 KiB
        self.text, self.quoting, self.names = text, quoting, names
        self.name = str(text.path)
        said = SEPARATOR.match(text.begin)
        self.before = 1 if said else 0  # lines before the header
        self.delimiter = said[1] if said else find_delimiter(text, names, quoting)
        self.form = f"fields parted by {DELIMITERS[self.delimiter]}"
        self.indented = False
        self.tall = (0, 0)  # lines of the highest row, and where it begins
        header = next((fields for _, _, fields in self._rows()), [])
        self.indented = not names and any(
            name.startswith(" ") for name in header
        )  # `text, label`: blanks that nobody means
        self.columns: Sequence[str] = list(names) or [name.strip() for name in header]
        if names and [name.strip().casefold() for name in header] == [name.casefold() for name in names]:
            raise DataError(f"{self.name} has a header of these very names; leave out columns.")
        if len(self.columns) > MOST_COLUMNS:
            raise DataError(f"{self.name} has {len(self.columns)} columns; {MOST_COLUMNS} are the most.")
        self.hint = "" if names else _without_header(self.columns, self.delimiter) or _undivided(self.columns)
        if (twice := first_duplicate(filter(None, self.columns))) is not None:
            more = f": {self.hint}" if self.hint else ""
            raise DataError(f"{self.name} has two columns '{short(twice)}'{more}.")

    def records(self, columns: Sequence[str]) -> Iterator[Record]:
        """Yield these columns of each row, with the line where it begins. Raises DataError with the line."""
        wanted = [column for column in columns if column in self.columns]
        take = _getter([self.columns.index(column) for column in wanted])
        width = len(self.columns)
        rows = self._rows()
        if not self.names:
            next(rows)
        for line, lines, fields in rows:
            if len(fields) != width:
                owner = "columns" if self.names else "the header"
                raise DataError(f"{self.name}, line {line}: {len(fields)} fields; {owner} has {width}.")
            if lines > self.tall[0]:
                self.tall = (lines, line)
            yield line, dict(zip(wanted, take(fields), strict=True))

    def notes(self) -> list[str]:
        lines, first = self.tall
        tall = f"a row runs over {lines} lines, from line {first}; {QUOTES}"
        return self.text.notes + ([tall] if lines > TALL else [])

    def _rows(self) -> Iterator[tuple[int, int, list[str]]]:
        """Yield the line where each row begins, its lines, and its fields. Blank lines are skipped."""
        ended = self.before
        with self.text.open(newline="") as file:
            for _ in range(self.before):
                file.readline()
            reader = _reader(file, self.delimiter, self.quoting, indented=self.indented)
            try:
                for fields in reader:
                    began, ended = ended, self.before + reader.line_num
                    if fields:
                        yield began + 1, ended - began, fields
            except csv.Error as error:
                remedy = f"; {QUOTES}" if self.quoting else ""
                raise DataError(f"{self.name}, line {ended + 1}: {error}{remedy}.") from None


def find_delimiter(text: Text, names: Sequence[str] = (), quoting: bool = True) -> str:
    """Find the delimiter in the header by which most rows have as many fields as the header."""
    fits = {each: share for each in DELIMITERS if (share := _share(text, each, names, quoting)) is not None}
    alone = "\t" if ".tsv" in [ending.lower() for ending in text.path.suffixes] else ","
    return max(fits, key=lambda each: fits[each], default=alone)


def _share(text: Text, delimiter: str, names: Sequence[str], quoting: bool) -> float | None:
    """Compute the share of sampled rows that have as many fields as the header; None if that is one field."""
    lines = text.begin.splitlines(keepends=True)
    sample = lines[: min(SAMPLED, max(1, len(lines) - text.is_cut))]  # the last line may be half a line
    if delimiter == UNIT and not any(BARS in line for line in sample):
        return None
    try:
        widths = [len(fields) for fields in _reader(sample, delimiter, quoting, strict=False) if fields]
    except csv.Error:
        return None
    if names:
        return widths.count(len(names)) / max(len(widths), 1)
    return widths[1:].count(widths[0]) / max(len(widths) - 1, 1) if widths and widths[0] > 1 else None


def _reader(
    lines: Iterable[str], delimiter: str, quoting: bool, strict: bool = True, indented: bool = False
) -> "_csv.Reader":
    quoted = quoting and delimiter != UNIT
    style: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    found = (line.replace(BARS, UNIT) for line in lines) if delimiter == UNIT else lines
    return csv.reader(found, delimiter=delimiter, quoting=style, strict=strict, skipinitialspace=indented)


def _getter(places: Sequence[int]) -> Callable[[Sequence[str]], Sequence[str]]:
    """Make a function that takes the fields at these places.

    `itemgetter` gives a tuple for two and more only.
    """
    if len(places) > 1:
        return itemgetter(*places)
    return lambda fields: [fields[place] for place in places]


def _without_header(header: Sequence[str], delimiter: str) -> str:
    """Say that a header looks like data, if it does, and what to do."""
    named = {field.strip().lower() for field in header} & {*TEXTS, *LABELS, *IDS}
    if named or not any(_like_data(field.strip()) for field in header):
        return ""
    begin = short(delimiter.join(header).replace(UNIT, BARS))
    return (
        f"its first line looks like data, {begin!r}; of a file without a header, "
        f"name the columns in tasks.toml: columns = [...] with {len(header)} names"
    )


def _undivided(header: Sequence[str]) -> str:
    """Say that a first line is one field only, and what may part fields.

    Nothing is said of more fields, or of one that looks like a name.
    """
    odd = len(header) == 1 and re.search(r"[^\w\s.-]", header[0])
    return f"its first line is one field, {short(header[0])!r}; {PARTED}" if odd else ""


def _like_data(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return len(field) > LONG_NAME or field.count(" ") > WORDY_NAME
    return True
