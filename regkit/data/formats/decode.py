"""Decode: open the text of a file, unpacked and in its own encoding.

Bytes decide and not endings: a file may be packed by gzip, bzip2 or xz, or be the only one in a zip file. Its encoding is
that of its byte order mark, or UTF-8, or else cp1252, which Windows writes in western Europe and America.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from regkit.base.errors import DataError
from regkit.data.formats.signatures import BEGIN, EXCEL, PICKLE, columnar, foreign, packing

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK = 1 << 20  # bytes read at once
SAMPLE = 1 << 16  # characters that tell how a text is laid out
LONGEST_LINE = 1 << 24  # bytes: a line is read in one piece
MOST_UNPACKED = 1 << 30  # bytes of a packed file that is small: it may say the same without end
RATIO = 100  # bytes for each of a larger packed file: text has some five
MARKS = {  # byte order marks; that of UTF-32 begins as that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
DECLARE = "name it in tasks.toml: encoding = '...'"  # as tasks declare it
WINDOWS = "cp1252"
ASCII_SHARE = 0.75  # at least so much of western text is ASCII; Greek or Russian text in one byte a letter has less
MULTIBYTE = re.compile(rb"[\xc3-\xf4][\x80-\xbf]+")  # what UTF-8 writes, and western text hardly ever
DAMAGE = (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)


class EncodingError(DataError):
    """Report bytes that are no text of the encoding in which a file was read."""


class Bounded(io.RawIOBase):
    """A stream that refuses to unpack to more than `most` bytes, with ValueError."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self.stream, self.most, self.left = stream, most, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        content = self.stream.read(memoryview(buffer).nbytes)
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(f"it unpacks to more than {self.most >> 20} MiB")
        memoryview(buffer).cast("B")[: len(content)] = content
        return len(content)


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open the bytes of a file, unpacked. Raises DataError for a damaged archive or one of several files."""
    with path.open("rb") as file:
        kind = packing(file.read(BEGIN))
        file.seek(0)
        if kind is None:
            yield file
            return
        try:
            with _inside(path, kind, file) as inner:
                most = max(MOST_UNPACKED, RATIO * path.stat().st_size)
                yield cast(BinaryIO, io.BufferedReader(Bounded(inner, most), BLOCK))
        except (*DAMAGE, NotImplementedError) as error:
            raise DataError(f"{path} is a damaged {kind} file: {str(error).rstrip('.')}.") from None


@contextmanager
def _inside(path: Path, kind: str, file: BinaryIO) -> Iterator[BinaryIO]:
    if kind == "zip":
        with zipfile.ZipFile(file) as archive, archive.open(_only_member(path, archive)) as member:
            yield cast(BinaryIO, member)
        return
    openers: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    with openers[kind](file) as stream:
        yield stream


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Find the one file of a zip archive. Raises DataError, which says what the archive is instead."""
    members = [each for each in archive.infolist() if not each.is_dir() and not each.filename.startswith("__MACOSX/")]
    names = [each.filename for each in members]
    if "xl/workbook.xml" in names or "xl/workbook.bin" in names:
        raise DataError(f"{path} is {EXCEL}.")
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise DataError(f"{path} is an Office document; export its rows as CSV in UTF-8 first.")
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(f"{path} is {PICKLE}.")
    if len(members) != 1:
        raise DataError(f"{path} is a zip file of {len(members)} files; unpack it, and name the one to read.")
    if members[0].flag_bits & 1:
        raise DataError(f"{path} is a zip file with a password; unpack it first.")
    return members[0]


@dataclass(frozen=True)
class Text:
    """A text file that was read once to its end, so that its encoding is known to fit."""

    path: Path
    encoding: str
    begin: str  # its first characters, at most `SAMPLE`
    remedy: str = DECLARE  # where another encoding is meant

    @property
    def is_cut(self) -> bool:
        """Whether the text goes on after its beginning."""
        return len(self.begin) >= SAMPLE

    @contextmanager
    def open(self, newline: str | None) -> Iterator[io.TextIOBase]:
        """Open the text; `newline` as for the built-in open."""
        with unpacked(self.path) as stream, io.TextIOWrapper(stream, self.encoding, newline=newline) as text:
            yield text

    @property
    def notes(self) -> list[str]:
        """Say which encoding was taken by trial."""
        if self.encoding != WINDOWS:
            return []
        return [f"it is not UTF-8, and was read as {WINDOWS}; if it has another encoding, {self.remedy}"]


def find_text(path: Path, encoding: str | None = None, remedy: str = DECLARE) -> Text:
    """Find the encoding of a text file, and check that all of it can be read.

    The `remedy` is what a user can do whose file has another one.

    Raises DataError, with the line, for bytes that are no text of that encoding, a line of more than 16 MiB, and a file
    that is empty or is no text.
    """
    with unpacked(path) as stream:
        begin = stream.read(BEGIN)
    _check_kind(path, begin)
    marked = next((name for mark, name in MARKS.items() if begin.startswith(mark)), None)
    if marked and (encoding or marked).startswith(marked.removesuffix("-sig")):
        return _decoded(path, marked)  # which leaves the mark out
    if encoding:
        return _decoded(path, encoding)
    try:
        return _decoded(path, "utf-8")
    except EncodingError as error:
        if not _looks_western(path):
            raise DataError(f"{str(error).rstrip('.')}; if it has another encoding, {remedy}.") from None
    return replace(_decoded(path, WINDOWS), remedy=remedy)


def _check_kind(path: Path, begin: bytes) -> None:
    if said := foreign(begin):
        raise DataError(f"{path} is {said}.")
    if kind := packing(begin) or columnar(begin):
        raise DataError(f"{path} is a {kind} file in another archive; unpack it first.")


def _decoded(path: Path, encoding: str) -> Text:
    """Decode a file once, without keeping it. Raises DataError with the line."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, length, begin, empty = 1, 0, "", True
    with unpacked(path) as stream:
        while True:
            block = stream.read(BLOCK)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                byte = f"byte {error.object[error.start]:#04x}"
                name = "UTF-8" if encoding.startswith("utf-8") else encoding
                raise EncodingError(f"{path}, line {line}: {byte} is not {name} text.") from None
            if not block:
                break
            if not begin.strip():
                begin = text.removeprefix("\ufeff")[:SAMPLE]
                if "\0" in begin.lstrip().partition("\n")[0]:
                    raise EncodingError(f"{path}, line 1: NUL is not text.")
            line += block.count(b"\n")
            end = max(block.rfind(b"\n"), block.rfind(b"\r"))
            length = length + len(block) if end < 0 else len(block) - end - 1
            if length > LONGEST_LINE:
                raise DataError(f"{path}, line {line}: it is longer than {LONGEST_LINE >> 20} MiB.")
            empty = empty and not text.strip()
    if empty:
        raise DataError(f"{path} is empty.")
    return Text(path, encoding, begin)


def _looks_western(path: Path) -> bool:
    """Tell whether bytes that are not UTF-8 look like western text of one byte a letter.

    Damaged UTF-8 does not, and neither does Greek, Russian or binary content: read as cp1252 it would be other letters.
    """
    high = letters = multibyte = 0
    with unpacked(path) as stream:
        while block := stream.read(BLOCK):
            found = sum(block.count(byte) for byte in range(0x80, 0x100)) if not block.isascii() else 0
            high += found
            letters += found + sum(map(block.count, b"etaoinshrdlucmfwypvbgkjqxz"))
            multibyte += sum(map(len, MULTIBYTE.findall(block)))
            if any(map(block.count, b"\0\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f\x10\x81\x8d\x8f\x90\x9d")):
                return False
    return high < (1 - ASCII_SHARE) * letters and 2 * multibyte < high
