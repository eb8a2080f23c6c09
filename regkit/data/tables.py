"""Tables: CSV, TSV, JSON lines and Parquet files as rows of text, each row with the line it came from."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regkit.errors import DataError, nearest


@dataclass(frozen=True)
class Table:
    """Rows of one file. `lines[i]` is where row i begins in it, so that an error can say where to look."""

    name: str  # the file, as messages give it
    rows: list[dict[str, str]]
    lines: list[int]
    unit: str = "line"  # Parquet has rows, not lines

    def where(self, row: int) -> str:
        return f"{self.name}, {self.unit} {self.lines[row]}"

    def require(self, columns: Iterable[str]) -> None:
        """DataError where a column is missing."""
        for column in columns:
            if column not in self.rows[0]:
                raise DataError(f"{self.name} has no column '{column}'. {nearest(column, filter(None, self.rows[0]))}")


def read_table(path: Path, *, quoting: bool = True) -> Table:
    """Read a file by its ending: .csv, .tsv, .txt (comma or tab, as its header shows), .jsonl, .parquet.

    `quoting=False` takes quote characters of CSV and TSV as they stand. DataError names file, line and field.
    """
    readers: dict[str, Callable[[Path], Table]] = {
        ".csv": lambda path: _read_csv(path, quoting),
        ".jsonl": _read_json_lines,
        ".parquet": _read_parquet,
    }
    readers[".tsv"] = readers[".txt"] = readers[".csv"]
    ending = path.suffix.lower()
    if ending not in readers:
        kind = f"'{ending}' files" if ending else "files without an ending"
        raise DataError(f"{path}: regkit does not read {kind}. {nearest(ending, readers)}")
    try:
        table = readers[ending](path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except OSError as error:  # pyarrow's have no strerror, and several lines
        raise DataError(
            f"{path} cannot be read: {(error.strerror or str(error).splitlines()[0]).rstrip('.')}."
        ) from None
    if not table.rows:
        raise DataError(f"{path} has no rows.")
    return table


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: byte {content[error.start]:#04x} is not UTF-8 text.") from None
    if not text.strip():
        raise DataError(f"{path} is empty.")
    return text


def _read_csv(path: Path, quoting: bool) -> Table:
    text = _text(path)
    tabs = path.suffix.lower() == ".tsv" or "\t" in text.lstrip("\r\n").partition("\n")[0]
    style: Literal[0, 3] = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",", quoting=style, strict=True)
    rows, lines, began = [], [], 0
    try:
        header = next(fields for fields in reader if fields)
        began = reader.line_num
        if twice := [name for name in header if name and header.count(name) > 1]:
            raise DataError(f"{path} has two columns '{twice[0]}'.")
        for fields in reader:
            began, before = reader.line_num, began
            if not fields:
                continue
            if len(fields) != len(header):
                raise DataError(f"{path}, line {before + 1}: {len(fields)} fields; the header has {len(header)}.")
            rows.append(dict(zip(header, fields, strict=True)))
            lines.append(before + 1)
    except csv.Error as error:
        remedy = "; if quotes in this file mean nothing, set quoting = false for the task in tasks.toml"
        raise DataError(f"{path}, line {began + 1}: {error}{remedy if quoting else ''}.") from None
    return Table(str(path), rows, lines)


def _read_json_lines(path: Path) -> Table:
    rows, lines = [], []
    for number, line in enumerate(_text(path).split("\n"), 1):  # JSON may hold the other line ends
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if "\\u" in line:  # JSON can spell half a character, which is no text
                json.dumps(record, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise DataError(f"{path}, line {number}: this is not JSON.") from None
        if not isinstance(record, dict):
            raise DataError(f"{path}, line {number}: a JSON object is needed, one a line.")
        rows.append({name: _plain(value) for name, value in record.items()})
        lines.append(number)
    return Table(str(path), rows, lines)


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'regkit[parquet]'.") from None
    try:
        records = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from None
    rows = [{name: _plain(value) for name, value in record.items()} for record in records]
    return Table(str(path), rows, list(range(1, len(rows) + 1)), unit="row")


def _plain(value: object) -> str:
    """A typed value as a CSV file would write it."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)
