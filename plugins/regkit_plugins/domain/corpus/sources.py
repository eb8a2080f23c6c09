"""Sources: read the files of a corpus and their lines and rows, in pieces of bounded size.

The first bytes and the ending of a file give its kind: Parquet, JSON lines, a table with a header, and otherwise text. All
but Parquet may be gzipped. A set of the Hugging Face Hub is a stream of rows.
"""

import csv
import glob
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from regkit import DataError, nearest

HUB = "hub:"
LINE = 1 << 16  # bytes of a line read at once: tokenizing takes about a kilobyte of memory for each token
RECORD = 1 << 24  # largest JSON line in bytes; it is parsed in one piece

BEGIN = 1 << 12  # bytes that tell what a file is
POINTER = b"version https://git-lfs.github.com/spec/"  # how the pointer of Git LFS begins
DELIMITERS = "\t,;|"  # of a table; the one that its header has most of

Kind = Literal["text", "json lines", "parquet", "table"]


@dataclass
class Reading:
    """The options of reading, and counts of what was cut, replaced or skipped so far."""

    errors: Literal["strict", "replace"] = "strict"  # what to do with bytes that are not UTF-8
    column: str = "text"  # field that holds the text in rows: JSON lines, tables, Parquet, the Hub
    cut: int = 0  # lines longer than `LINE`
    replaced: int = 0  # pieces of text with bytes that are not UTF-8
    bare: int = 0  # rows whose text is null or blank
    bytes: int = 0  # of the files that were read completely
    at: BinaryIO | None = field(default=None, repr=False)  # the file being read

    def position(self) -> int:
        """Return the number of bytes read so far, as stored on the disk."""
        return self.bytes + (self.at.tell() if self.at and not self.at.closed else 0)


@dataclass(frozen=True)
class File:
    """A file of a corpus."""

    path: Path
    kind: Kind
    gzipped: bool

    @classmethod
    def of(cls, path: Path) -> "File":
        with readable(path), path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            packed = magic[:2] == b"\x1f\x8b"
            begin = gzip.GzipFile(fileobj=file).read(BEGIN) if packed else file.read(BEGIN)
        if begin.startswith(POINTER):
            raise DataError(f"{path} is a Git LFS pointer and not the file; fetch that with git lfs pull.")
        endings = [ending.lower() for ending in path.suffixes]
        if magic == b"PAR1" or endings[-1:] == [".parquet"]:
            return cls(path, "parquet", False)
        inner = endings[:-1] if endings[-1:] == [".gz"] else endings
        return cls(path, _kind(begin, inner[-1] if inner else ""), packed or endings[-1:] == [".gz"])

    @contextmanager
    def open(self, reading: Reading | None = None) -> Iterator[BinaryIO]:
        """Open the unzipped bytes; `reading` follows the position. Raises DataError if they cannot be read."""
        with readable(self.path), self.path.open("rb") as raw:
            if reading and self.kind != "parquet":  # Parquet is not read in order
                reading.at = raw
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if self.gzipped else raw
            if reading:
                reading.bytes += self.path.stat().st_size
                reading.at = None


def _kind(begin: bytes, ending: str) -> Kind:
    """Tell what the unzipped bytes of a file are."""
    if ending in (".jsonl", ".ndjson", ".json") or re.match(rb'(\xef\xbb\xbf)?\s*\{\s*"', begin):
        return "json lines"
    return "table" if ending in (".csv", ".tsv") else "text"


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise DataError if the block cannot read the file."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file: {str(error).rstrip('.')}.") from None
    except OSError as error:  # pyarrow's errors have no strerror, and several lines
        raise DataError(f"{path} cannot be read: {(error.strerror or _first_line(error)).rstrip('.')}.") from None


def find_files(source: str) -> list[File]:
    """Find the files of a path, a folder (recursively, without hidden files) or a glob, sorted by path.

    Raises DataError if there is none.
    """
    path = Path(source).expanduser()
    found = [path] if path.exists() else [Path(name) for name in glob.glob(str(path), recursive=True)]
    paths = {below for each in found for below in (_below(each) if each.is_dir() else [each])}
    if lost := sorted(str(path) for path in paths if path.is_symlink() and not path.exists()):
        raise DataError(f"{lost[0]} is a link to a file that does not exist; remove the link, or bring the file.")
    files = [File.of(path) for path in sorted(paths, key=str) if path.is_file()]
    if not files and path.exists() and not path.is_dir():
        raise DataError(f"{source} is a pipe or a device, and a corpus is read more than once; save it as a file.")
    if not files:
        what = f"{source} has no files" if path.is_dir() else f"no file matches {source}"
        raise DataError(f"{what}; a corpus is a file, a folder, a glob, or {HUB}NAME.")
    return files


def _below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.")

    seen = {folder.resolve()}  # a link may lead back to a folder above it
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        # of several names for one folder, the first
        shown = {
            Path(place, name).resolve(): name for name in sorted(folders, reverse=True) if not name.startswith(".")
        }
        folders[:] = sorted(name for real, name in shown.items() if real not in seen)
        seen.update(shown)
        yield from (Path(place, name) for name in names if not name.startswith("."))


def read_lines(file: File, reading: Reading) -> Iterator[tuple[bool, str]]:
    """Yield whether a line begins, and its stripped text.

    A line above 64 KiB comes in pieces, a blank one as ''. Raises DataError with file and line for a byte that is not
    UTF-8, and for a NUL byte, which text never has.
    """
    begins, was_cut = True, 0
    with file.open(reading) as stream:
        for number, ends, content in _pieces(stream):
            text = _decode(content, file.path, number, reading).strip()
            if text or (begins and ends):
                yield begins, text
                begins = False
            if not ends and number != was_cut:
                reading.cut, was_cut = reading.cut + 1, number
            begins = begins or ends


def _pieces(stream: BinaryIO) -> Iterator[tuple[int, bool, bytes]]:
    """Yield line number, whether the line ends here, and bytes; cut long lines, after a blank if possible."""
    number, rest = 1, b""
    while content := stream.readline(LINE):
        whole = rest + content
        ends = content.endswith(b"\n") or len(content) < LINE
        end = len(whole) if ends else _cut(whole)
        yield number, ends, whole[:end]
        number, rest = number + ends, whole[end:]
    if rest:
        yield number, True, rest


def _cut(content: bytes) -> int:
    blank = max(content.rfind(b" "), content.rfind(b"\t"))  # in UTF-8, these bytes are never part of another character
    if blank >= 0:
        return blank + 1
    start = len(content) - 1
    while start > len(content) - 4 and 0x80 <= content[start] < 0xC0:  # inside a character of UTF-8
        start -= 1
    return start


def _decode(content: bytes, path: Path, number: int, reading: Reading) -> str:
    if b"\0" in content:
        raise DataError(f"{path} is no text file: line {number} has a NUL byte.")
    if number == 1:
        content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        if reading.errors == "strict":
            byte = f"byte {content[error.start]:#04x}"
            raise DataError(
                f"{path}, line {number}: {byte} is not UTF-8 text; errors=replace reads on past such bytes."
            ) from None
    reading.replaced += 1
    return content.decode(errors="replace")


def read_rows(file: File, reading: Reading) -> Iterator[str]:
    """Yield the text of each row. Raises DataError with file, line and field."""
    readers = {"parquet": _parquet_rows, "json lines": _json_rows, "table": _table_rows}
    yield from readers[file.kind](file, reading)


def _table_rows(file: File, reading: Reading) -> Iterator[str]:
    csv.field_size_limit(RECORD)  # csv's own limit is 128 KiB
    number = 0
    with file.open(reading) as stream:
        lines = _text_lines(file, stream, reading)
        header_line = next((line for line in lines if line.strip()), "")
        delimiter = max(DELIMITERS, key=header_line.count)
        rows = csv.reader(chain([header_line], lines), delimiter=delimiter, strict=True)
        try:
            header = next(rows)
            if reading.column not in header:
                raise DataError(
                    f"{file.path} is a table without a column '{reading.column}'; "
                    f"domain:text=COLUMN names that of the text. {nearest(reading.column, filter(None, header))}"
                )
            for number, row in enumerate(rows, 2):
                if row and len(row) != len(header):
                    raise DataError(f"{file.path}, row {number}: {len(row)} fields; the header has {len(header)}.")
                yield from row[header.index(reading.column) :][:1]
        except csv.Error as error:
            raise DataError(f"{file.path}, row {number + 1}: {error}.") from None


def _text_lines(file: File, stream: BinaryIO, reading: Reading) -> Iterator[str]:
    """Yield the lines of a table with their ends; a quoted field may hold several."""
    number = 0
    while line := stream.readline(RECORD):
        number += 1
        if len(line) == RECORD:
            raise DataError(f"{file.path}, line {number} is longer than {RECORD >> 20} MiB.")
        yield _decode(line, file.path, number, reading)


def _json_rows(file: File, reading: Reading) -> Iterator[str]:
    number = 0
    with file.open(reading) as stream:
        while line := stream.readline(RECORD):
            number += 1
            where = f"{file.path}, line {number}"
            if len(line) == RECORD:
                raise DataError(f"{where} is longer than {RECORD >> 20} MiB; one JSON object a line is needed.")
            if not line.isspace():
                yield _field(_object(_decode(line, file.path, number, reading), where), where, reading)


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: this is not JSON; one object a line is needed.") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: a JSON object is needed, one a line.")
    return record


def _field(record: dict[str, Any], where: str, reading: Reading) -> str:
    if reading.column not in record:
        raise DataError(f"{where}: there is no field '{reading.column}'. {nearest(reading.column, record)}")
    text = record[reading.column]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise DataError(f"{where}: {reading.column} is {str(text)[:40]!r}; a text is needed.")
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell half a character
        if reading.errors == "strict":
            raise DataError(
                f"{where}: {reading.column} has half a character; errors=replace reads on past it."
            ) from None
        reading.replaced += 1
        return text.encode("utf8", "replace").decode()
    return text


def _parquet_rows(file: File, reading: Reading) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{file.path}: reading Parquet needs pyarrow: pip install 'regkit[parquet]'.") from None
    number = 0
    try:
        with file.open(reading) as raw, pyarrow.parquet.ParquetFile(raw, buffer_size=1 << 20) as table:
            names = table.schema_arrow.names
            _field(dict.fromkeys(names), str(file.path), reading)
            for batch in table.iter_batches(batch_size=256, columns=[reading.column]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield _field({reading.column: text}, f"{file.path}, row {number}", reading)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{file.path} cannot be read: {_first_line(error)}.") from None


@dataclass(frozen=True)
class HubSet:
    """The training split of a data set on the Hugging Face Hub, or of a folder with such a layout."""

    name: str
    configuration: str | None = None

    @classmethod
    def of(cls, source: str) -> "HubSet":
        """Parse `hub:OWNER/NAME/CONFIG`; two parts are owner and name, as on the Hub."""
        parts = source.removeprefix(HUB).split("/")
        if not all(parts) or len(parts) > 3:
            raise DataError(f"{source} names no data set; {HUB}OWNER/NAME or {HUB}OWNER/NAME/CONFIG is needed.")
        return cls("/".join(parts[:2]), *parts[2:])

    def revision(self) -> str:
        """Ask the Hub for the newest commit. Raises DataError if the Hub does not answer."""
        try:
            from huggingface_hub import HfApi
        except ImportError:
            raise self._missing() from None
        try:
            return str(HfApi().dataset_info(self.name).sha)
        except Exception as error:  # errors of the network, of the Hub, and of its answer share no base
            raise DataError(f"{HUB}{self.name} cannot be found: {_first_line(error)}.") from None

    def rows(self, reading: Reading, revision: str | None) -> Iterator[str]:
        """Stream the text of each row."""
        try:
            from datasets import load_dataset
        except ImportError:
            raise self._missing() from None
        try:
            stream = load_dataset(self.name, self.configuration, split="train", streaming=True, revision=revision)
            for number, row in enumerate(stream, 1):
                yield _field(row, f"{HUB}{self.name}, row {number}", reading)
        except DataError:
            raise
        except Exception as error:  # of the network, of the set's own files, of its configurations
            raise DataError(f"{HUB}{self.name} cannot be read: {_first_line(error)}.") from None

    def _missing(self) -> DataError:
        return DataError(f"{HUB}{self.name}: reading from the Hub needs datasets: pip install 'regkit[hub]'.")


def _first_line(error: Exception) -> str:
    """Return the first line of a library's message, without its full stop."""
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
