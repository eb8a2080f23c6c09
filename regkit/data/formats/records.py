"""Records: what every reader of tables gives, and how typed values become text."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from regkit.base.errors import nearest

Value = str | int | float | bool  # what a field may be compared with
Record = tuple[int, dict[str, str]]  # the line or row where it begins, and its fields by column


class Source(Protocol):
    """A file that is open to be read as records."""

    name: str  # of the file, as messages give it
    form: str  # what it was found to be, for the user
    unit: str  # what is counted in it: lines or rows
    columns: Sequence[str]
    hint: str  # what else to say where a column is missing; often nothing
    classes: Mapping[str, Sequence[str]]  # by column of class numbers: the names that the file gives to them

    def records(self, columns: Sequence[str]) -> Iterator[Record]:
        """Yield these columns of each record. Raises DataError, which names the line."""
        ...

    def notes(self) -> list[str]:
        """Say what is unusual about the records that were read, a sentence each."""
        ...


class Nested(str):
    """The JSON of a list or an object: a value that is no text, and can be no text of a task."""

    __slots__ = ()


def text_of(value: object) -> str:
    """Write a typed value as a CSV file would; what is missing is empty."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN is how pandas writes what is missing
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict | list | tuple):
        return Nested(json.dumps(value, ensure_ascii=False, default=str))
    return str(value)


def lookup(record: Mapping[str, Any], path: str) -> object:
    """Find a field by its name, or by its path through objects and lists: `data.text`, `labels.0`."""
    if path in record:
        return record[path]
    value: Any = record
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def fields_of(record: Mapping[str, Any], columns: Sequence[str]) -> dict[str, str]:
    """Take these columns of a record, as text. Raises ValueError for bytes that are no text."""
    return {column: text_of(lookup(record, column)) for column in columns}


def has_column(known: Iterable[str], column: str) -> bool:
    """Tell whether a column, or the one in which a path begins, is among those known."""
    return column in known or column.partition(".")[0] in known


def missing(name: str, known: Iterable[str], columns: Iterable[str], hint: str = "") -> str:
    """Say which of these columns a file lacks, and the nearest one or the hint; nothing if it has all."""
    named = {each for each in known if each}
    absent = next((column for column in columns if not has_column(named, column)), None)
    if absent is None:
        return ""
    return f"{name} has no column '{absent}'{f': {hint}.' if hint else f'. {nearest(absent, named)}'}"


def first_duplicate(names: Iterable[str]) -> str | None:
    """Find the first name that occurs more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)
