"""Signatures: tell by its first bytes what a file is, whatever its name says."""

from typing import Literal

from regkit.base.files import POINTER

BEGIN = 512  # bytes that tell: those of tar stand at 257

Packing = Literal["gzip", "bzip2", "xz", "zip"]
Columnar = Literal["parquet", "arrow", "arrow stream"]

PACKINGS: dict[bytes, Packing] = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"PK\x03\x04": "zip"}
COLUMNAR: dict[bytes, Columnar] = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow stream",  # as `datasets` writes it
}
PICKLE = "a pickle, which may run code when it is read; save the table as CSV, JSON lines or Parquet"
PICTURE = "a picture, not a table"
UNPACK = "an archive; unpack it first"
EXCEL = "an Excel workbook; save its sheet as CSV in UTF-8 first"
OTHERS: dict[bytes, str] = {  # what regkit does not read: what it is, and what to do
    POINTER: "a Git LFS pointer and not the file; fetch that with git lfs pull",
    b"%PDF-": "a PDF document; a table or plain text is needed",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office file, such as .xls; save its sheet as CSV in UTF-8 first",
    b"{\\rtf": "a document in rich text; a table or plain text is needed",
    b"SQLite format 3\0": "an SQLite database; export the rows as CSV first",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file; export the rows as CSV or Parquet first",
    b"\x93NUMPY": "a NumPy array; save the table as CSV, JSON lines or Parquet",
    b"ORC": "an ORC file; export the rows as Parquet first",
    b"Obj\x01": "an Avro file; export the rows as Parquet first",
    b"FEA1": "a Feather file of version 1; write it again with a newer pyarrow",
    b"\x28\xb5\x2f\xfd": "packed by Zstandard; unpack it first",
    b"\x04\x22\x4d\x18": "packed by LZ4; unpack it first",
    b"7z\xbc\xaf\x27\x1c": UNPACK,
    b"Rar!\x1a\x07": UNPACK,
    b"\x89PNG\r\n": PICTURE,
    b"\xff\xd8\xff": PICTURE,
    b"GIF8": PICTURE,
    **{bytes([0x80, protocol]): PICKLE for protocol in range(2, 6)},
}
TAR = (257, b"ustar")
MARKUP = {
    b"<!doctype html": "an HTML page and not a table; perhaps the download needed a login",
    b"<html": "an HTML page and not a table; perhaps the download needed a login",
    b"<?xml": "an XML document; export its rows as CSV or JSON lines first",
}


def packing(begin: bytes) -> Packing | None:
    """Tell how a file is packed, by its first bytes; None if it is not."""
    return next((found for magic, found in PACKINGS.items() if begin.startswith(magic)), None)


def columnar(begin: bytes) -> Columnar | None:
    """Tell which format with typed columns a file has, by its first bytes; None for any other."""
    return next((found for magic, found in COLUMNAR.items() if begin.startswith(magic)), None)


def foreign(begin: bytes) -> str | None:
    """Say what a file is that cannot be read as a table, and what to do; None if it may be one."""
    start = begin.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if begin[TAR[0] :].startswith(TAR[1]):
        return UNPACK
    known = next((said for magic, said in OTHERS.items() if begin.startswith(magic)), None)
    return known or next((said for magic, said in MARKUP.items() if start.startswith(magic)), None)
