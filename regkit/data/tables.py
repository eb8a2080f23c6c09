"""Tables: read CSV, TSV, JSON lines and Parquet files as rows of text, and note the line of each row."""

import codecs
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regkit.base.errors import DataError, nearest
from regkit.base.files import check_plain

BLOCK = 1 << 20  # bytes read at once
LONGEST_LINE = 1 << 24  # bytes: a line is read in one piece
MOST_ROWS = 1 << 22  # of a table: all are held in memory, half a kilobyte each
MOST_TEXT = 1 << 30  # characters of a Parquet file, which may repeat a value without end


@dataclass(frozen=True)
class Table:
    """The rows of one file. Row i begins in line `lines[i]`, so that an error can say where to look."""

    name: str  # of the file, as messages give it
    rows: list[dict[str, str]]
    lines: list[int]
    unit: str = "line"  # Parquet has rows, not lines

    def where(self, row: int) -> str:
        """Say where a row is, for a message: the file and the line."""
        return f"{self.name}, {self.unit} {self.lines[row]}"

    def require(self, columns: Iterable[str]) -> None:
        """Check that the columns are there. Raises DataError, which names the nearest column."""
        _require(self.name, self.rows[0], columns)


def read_table(path: Path, *, quoting: bool = True, columns: Sequence[str] = ()) -> Table:
    """Read a file by its ending: .csv, .tsv, .txt, .jsonl or .parquet.

    Fields are parted by commas or, if the header has one or the ending is .tsv, by tabs. `quoting=False` takes quote
    characters of CSV and TSV as they stand. A file that lacks one of `columns` is not read to its end. Raises DataError,
    which names file, line and field.
    """
    readers: dict[str, Callable[[Path], Table]] = {
        ".csv": lambda path: _read_csv(path, quoting, columns),
        ".jsonl": lambda path: _read_json_lines(path, columns),
        ".parquet": lambda path: _read_parquet(path, columns),
    }
    readers[".tsv"] = readers[".txt"] = readers[".csv"]
    ending = path.suffix.lower()
    if ending not in readers:
        kind = f"'{ending}' files" if ending else "files without an ending"
        raise DataError(f"{path}: regkit does not read {kind}. {nearest(ending, readers)}")
    try:
        check_plain(path)
        table = readers[ending](path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from None
    except OSError as error:  # an error of pyarrow has no strerror, and several lines
        raise DataError(
            f"{path} cannot be read: {(error.strerror or str(error).splitlines()[0]).rstrip('.')}."
        ) from None
    if not table.rows:
        raise DataError(f"{path} has no rows.")
    return table


def first_duplicate(names: Iterable[str]) -> str | None:
    """Find the first name that occurs more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _require(owner: str, names: Iterable[str], columns: Iterable[str]) -> None:
    known = {name for name in names if name}
    for column in columns:
        if column not in known:
            raise DataError(f"{owner} has no column '{column}'. {nearest(column, known)}")


def _check_text(path: Path) -> None:
    """Check that a file is UTF-8, has no line that is too long, and is not blank. Raises DataError."""
    decoder, line, length, empty = codecs.getincrementaldecoder("utf-8-sig")(), 1, 0, True
    with path.open("rb") as file:
        while True:
            block = file.read(BLOCK)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                byte = f"byte {error.object[error.start]:#04x}"
                raise DataError(f"{path}, line {line}: {byte} is not UTF-8 text.") from None
            if not block:
                break
            line += block.count(b"\n")
            end = max(block.rfind(b"\n"), block.rfind(b"\r"))
            length = length + len(block) if end < 0 else len(block) - end - 1
            if length > LONGEST_LINE:
                raise DataError(f"{path}, line {line}: it is longer than {LONGEST_LINE >> 20} MiB.")
            empty = empty and not text.strip()
    if empty:
        raise DataError(f"{path} is empty.")


def _too_many(path: Path) -> DataError:
    return DataError(f"{path} has more than {MOST_ROWS} rows; a table is held in memory.")


def _read_csv(path: Path, quoting: bool, columns: Sequence[str]) -> Table:
    _check_text(path)
    style: Literal[0, 3] = csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    rows: list[dict[str, str]] = []
    lines, began = [], 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        tabs = path.suffix.lower() == ".tsv" or "\t" in next(line for line in file if line.strip("\r\n"))
        file.seek(0)
        reader = csv.reader(file, delimiter="\t" if tabs else ",", quoting=style, strict=True)
        try:
            header = next(fields for fields in reader if fields)
            began = reader.line_num
            if twice := first_duplicate(filter(None, header)):
                raise DataError(f"{path} has two columns '{twice}'.")
            _require(str(path), header, columns)
            for fields in reader:
                began, before = reader.line_num, began
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise DataError(f"{path}, line {before + 1}: {len(fields)} fields; the header has {len(header)}.")
                rows.append(dict(zip(header, fields, strict=True)))
                lines.append(before + 1)
                if len(rows) > MOST_ROWS:
                    raise _too_many(path)
        except csv.Error as error:
            remedy = "; if quotes in this file mean nothing, set quoting = false for the task in tasks.toml"
            raise DataError(f"{path}, line {began + 1}: {error}{remedy if quoting else ''}.") from None
    return Table(str(path), rows, lines)


def _read_json_lines(path: Path, columns: Sequence[str]) -> Table:
    _check_text(path)
    rows: list[dict[str, str]] = []
    lines = []
    with path.open(encoding="utf-8-sig", newline="\n") as file:  # a JSON line may contain the other line ends
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = _row(line, f"{path}, line {number}")
            if not rows:
                _require(str(path), row, columns)
            rows.append(row)
            lines.append(number)
            if len(rows) > MOST_ROWS:
                raise _too_many(path)
    return Table(str(path), rows, lines)


def _row(line: str, where: str) -> dict[str, str]:
    try:
        record = json.loads(line)
        if "\\u" in line:  # JSON can escape half of a surrogate pair, which is not text
            json.dumps(record, ensure_ascii=False).encode()
        if isinstance(record, dict):
            return {name: _text(value) for name, value in record.items()}
    except (ValueError, RecursionError):
        raise DataError(f"{where}: this is not JSON.") from None
    raise DataError(f"{where}: a JSON object is needed, one a line.")


def _read_parquet(path: Path, columns: Sequence[str]) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'regkit[parquet]'.") from None
    rows: list[dict[str, str]] = []
    size = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if file.metadata.num_rows > MOST_ROWS:
                raise _too_many(path)
            _require(str(path), file.schema_arrow.names, columns)
            for batch in file.iter_batches(batch_size=256):
                for values in zip(*batch.columns, strict=True):
                    row = {name: _text(value.as_py()) for name, value in zip(batch.schema.names, values, strict=True)}
                    rows.append(row)
                    size += sum(map(len, row.values()))
                    if size > MOST_TEXT:
                        raise DataError(
                            f"{path} has more than {MOST_TEXT >> 20} MiB of text; a table is held in memory."
                        )
    except (pyarrow.ArrowException, ValueError, OverflowError, RecursionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path} cannot be read: {reason.rstrip('.')}.") from None
    return Table(str(path), rows, list(range(1, len(rows) + 1)), unit="row")


def _text(value: object) -> str:
    """Write a typed value as a CSV file would."""
    if value is None:
        return ""
    if isinstance(value, list):  # of labels; a text is none
        with suppress(TypeError, ValueError):
            return json.dumps(value, ensure_ascii=False)
    return str(int(value)) if isinstance(value, bool) else str(value)
