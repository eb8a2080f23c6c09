"""Objects: read JSON, as one object a line or as an array of objects."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from regkit.base.errors import DataError
from regkit.data.formats.decode import Text
from regkit.data.formats.records import Record, fields_of, first_duplicate

SAMPLED = 100  # records whose fields are the columns: a record may leave out what it lacks
MOST_ARRAY = 1 << 28  # characters of an array, which is held in memory while it is read
BLANK = re.compile(r"\s*")
BEGINS_JSON = re.compile(
    r'\{\s*("|\}|$)|\[\s*(\{|\]|$)'
)  # an object, or an array of them; a text may begin with a bracket
AS_LINES = "an array of objects or one object a line is needed; pandas writes it by orient='records', lines=True"


class NotRowsError(ValueError):
    """Report JSON that stands for no row."""


class Objects:
    """The objects of a JSON file. Raises DataError, with the line, for what is none."""

    unit = "line"
    hint = ""
    classes: Mapping[str, Sequence[str]] = {}

    def __init__(self, text: Text) -> None:
        self.text, self.name = text, str(text.path)
        self.array = text.begin.lstrip().startswith("[")
        self.form = "a JSON array" if self.array else "JSON lines"
        sampled = list(islice(self._objects(), SAMPLED))
        if len(sampled) == 1 and not self.array and _is_whole_table(sampled[0][1]):
            raise DataError(f"{self.name} is one JSON object, and no rows; {AS_LINES}.")
        self.columns: Sequence[str] = list(dict.fromkeys(name for _, each in sampled for name in each))

    def records(self, columns: Sequence[str]) -> Iterator[Record]:
        """Yield these fields of each object, with the line where it begins. Raises DataError with the line."""
        for line, found in self._objects():
            try:
                yield line, fields_of(found, columns)
            except RecursionError:
                raise DataError(f"{self.name}, line {line}: it is nested too deep.") from None

    def notes(self) -> list[str]:
        return self.text.notes

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        return self._of_array() if self.array else self._of_lines()

    def _of_lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with self.text.open(newline="\n") as file:  # a JSON line may contain the other line ends
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, self._object(line, number)

    def _object(self, line: str, number: int) -> dict[str, Any]:
        where = f"{self.name}, line {number}"
        try:
            found = DECODER.decode(line)
            _check_characters(found, line)
        except (ValueError, RecursionError) as error:
            if number == 1 and line.strip() in ("{", "{}"):
                raise DataError(f"{self.name} is one JSON object over several lines; {AS_LINES}.") from None
            raise DataError(f"{where}: {_reason(error)}.") from None
        if not isinstance(found, dict):
            raise DataError(f"{where}: a JSON object is needed, one a line.")
        return found

    def _of_array(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with self.text.open(newline=None) as file:
            content = file.read(MOST_ARRAY + 1)
        if len(content) > MOST_ARRAY:
            raise DataError(f"{self.name} is a JSON array of more than {MOST_ARRAY >> 20} MiB; {AS_LINES}.")
        place, line, counted = content.index("[") + 1, 1, 0
        while True:
            place = _skip(content, place)
            line, counted = line + content.count("\n", counted, place), place
            where = f"{self.name}, line {line}"
            if content.startswith("]", place):
                self._check_end(content, place + 1, line)
                break
            try:
                found, end = DECODER.raw_decode(content, place)
                _check_characters(found, content[place:end])
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: {_reason(error)}.") from None
            if not isinstance(found, dict):
                raise DataError(f"{where}: a JSON object is needed, and an array of them.")
            yield line, found
            place = _skip(content, end)
            if content.startswith(",", place):
                place += 1
            elif not content.startswith("]", place):
                raise DataError(f"{where}: this is not JSON.")

    def _check_end(self, content: str, place: int, line: int) -> None:
        """Raise DataError for anything that stands behind the array, such as another one."""
        end = _skip(content, place)
        if end < len(content):
            line += content.count("\n", place, end)
            raise DataError(f"{self.name}, line {line}: the array has ended, and here is more; {AS_LINES}.")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its fields. Raises NotRowsError where a name is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotRowsError(f"the object has '{first_duplicate(name for name, _ in pairs)}' twice")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_once)


def looks_like_objects(text: Text) -> bool:
    """Tell whether a text is JSON objects, by how it begins.

    A bracket may begin a row of another table; with the ending of JSON it is an array.
    """
    begin = text.begin.lstrip()
    named = any(ending.lower() in (".json", ".jsonl", ".ndjson") for ending in text.path.suffixes)
    return named or bool(BEGINS_JSON.match(begin))


def _is_whole_table(record: Mapping[str, Any]) -> bool:
    """Tell whether one object holds all rows.

    They are in a list, or as columns with an entry a row: an object of them, as pandas writes it, or a list.
    """
    values = list(record.values())
    if len(values) == 1 and isinstance(values[0], list):
        return True
    rows = [
        list(each) if isinstance(each, dict) else range(len(each)) for each in values if isinstance(each, dict | list)
    ]
    return len(values) > 1 and len(rows) == len(values) and all(each == rows[0] for each in rows)


def _check_characters(found: object, content: str) -> None:
    """Refuse half of a surrogate pair, which JSON can escape and which is not text, with NotRowsError."""
    if "\\u" in content:
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise NotRowsError(f"{half} is half of a surrogate pair, and no character") from None


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, NotRowsError) else "this is not JSON"


def _skip(content: str, place: int) -> int:
    found = BLANK.match(content, place)
    return found.end() if found else place
