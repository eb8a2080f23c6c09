"""Documents: read the passages of a corpus, one after another, each marked if it begins a document.

An option says what forms a document: a line, a file, or the text between blank lines or tags. A row of JSON lines, of a
table, of a Parquet file or of a Hub set is always a document. A passage is a line. If a line is its whole document, or is
longer than 64 KiB, its sentences are the passages: a sentence ends with `.`, `!` or `?`, maybe a closing quote or bracket,
then blanks, before a capital, a digit or an opening quote or bracket.
"""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Literal

from regkit import ConfigError, DataError, nearest
from regkit_plugins.domain.corpus.sources import HUB, LINE, File, HubSet, Reading, find_files, read_lines, read_rows

Layout = Literal["lines", "files", "blank", "tags"]
LAYOUTS = ("auto", "lines", "files", "blank", "tags")
TAG, END = "<doc ", "</doc>"  # lines around a document, as WikiExtractor writes them
SAMPLED_FILES = 20
SAMPLED_BYTES = 1 << 16  # of each file
BLANK = 0.01  # a larger share of blank lines means that they separate documents

SENTENCE = re.compile(
    r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’»)\]]))\s+(?=[\"'“‘«(\[]?[A-Z0-9\u00C0-\u00DE\u0391-\u03A9\u0400-\u042F])"  # noqa: RUF001
)


@dataclass(frozen=True)
class Corpus:
    """A file, a folder, a glob, or `hub:OWNER/NAME` to read. Raises ConfigError for an invalid option."""

    source: str
    documents: Literal["auto", "lines", "files", "blank", "tags"] = "auto"  # what forms a document in a text file
    field: str = "text"  # field that holds the text in JSON lines, Parquet and Hub rows
    errors: Literal["strict", "replace"] = "strict"  # what to do with bytes that are not UTF-8

    def __post_init__(self) -> None:
        for option, choices in {"documents": LAYOUTS, "errors": ("strict", "replace")}.items():
            if (value := getattr(self, option)) not in choices:
                raise ConfigError(f"a corpus has no {option} '{value}'. {nearest(value, choices)}")

    @property
    def hub(self) -> HubSet | None:
        """The Hub set that the source names, or None."""
        return HubSet.of(self.source) if self.source.startswith(HUB) else None

    def files(self) -> list[File]:
        """Return the files, sorted by path; none for a set on the Hub. Raises DataError if there is nothing."""
        if self.hub:
            return find_files(self.hub.name) if Path(self.hub.name).is_dir() else []
        return find_files(self.source)


class Begins(Enum):
    """Whether a line or a document begins with a text."""

    PIECE = 0  # neither: its line began before
    LINE = 1
    DOCUMENT = 2


Texts = Iterable[tuple[Begins, str]]


@dataclass
class Passages:
    """The passages of a corpus, read in bounded memory while iterating, with remarks on what was read."""

    corpus: Corpus
    files: Sequence[File]
    revision: str | None = None  # of a set on the Hub
    layout: Layout | None = field(init=False)  # None if every file has rows
    reading: Reading = field(init=False)

    def __post_init__(self) -> None:
        self.reading = Reading(self.corpus.errors, self.corpus.field)
        texts = [] if self.corpus.hub else [file for file in self.files if file.kind == "text"]
        asked = self.corpus.documents
        self.layout = None if not texts else guess_layout(texts) if asked == "auto" else asked

    def __iter__(self) -> Iterator[tuple[bool, str]]:
        """Yield whether a document begins, and the passage. Raises DataError if a file cannot be read."""
        return _split(chain.from_iterable(self._texts()))

    def _texts(self) -> Iterator[Texts]:
        if self.corpus.hub:
            yield self._rows(self.corpus.hub.rows(self.reading, self.revision))
            return
        for file in self.files:
            if file.kind == "text" and self.layout:
                yield _laid_out(read_lines(file, self.reading), self.layout)
            else:
                yield self._rows(read_rows(file, self.reading))

    def _rows(self, rows: Iterable[str]) -> Texts:
        for row in rows:
            lines = [line for line in map(str.strip, row.split("\n")) if line]
            self.reading.bare += not lines
            for number, line in enumerate(lines):
                self.reading.cut += len(line) > LINE
                for place, piece in enumerate(_pieces(line)):
                    yield Begins.PIECE if place else Begins.LINE if number else Begins.DOCUMENT, piece

    def notes(self) -> list[str]:
        """Tell the user what was guessed, cut, replaced or skipped so far, a sentence each."""
        what = {
            "lines": "a line",
            "files": "a file",
            "blank": "what stands between blank lines",
            "tags": "what stands between <doc> and </doc>",
        }
        said = []
        if self.layout:
            guess = " (a guess; documents= says otherwise)" if self.corpus.documents == "auto" else ""
            said.append(f"a document is {what[self.layout]}{guess}")
        if self.reading.cut:
            said.append(f"{self.reading.cut} lines longer than {LINE >> 10} KiB were truncated")
        if self.reading.replaced:
            said.append(f"{self.reading.replaced} lines had bytes that are not UTF-8, which were replaced")
        if self.reading.bare:
            said.append(f"{self.reading.bare} rows without text were left out")
        return said


def read_documents(corpus: Corpus) -> Iterator[list[str]]:
    """Yield each document as a list of passages; only one document is in memory at a time."""
    document: list[str] = []
    for begins, passage in Passages(corpus, corpus.files()):
        if begins and document:
            yield document
            document = []
        document.append(passage)
    if document:
        yield document


def guess_layout(files: Sequence[File]) -> Layout:
    """Guess what forms a document from samples.

    It is tags, else blank lines, else files if most are small, else lines.
    """
    chosen = files[:: -(-len(files) // SAMPLED_FILES)]
    samples = [_sample(file) for file in chosen]
    if all(sample.lstrip().startswith(TAG.encode()) for sample in samples):
        return "tags"
    lines = [line.strip() for sample in samples for line in sample.strip().split(b"\n")]
    if lines.count(b"") > BLANK * len(lines):
        return "blank"
    small = sum(len(sample) < SAMPLED_BYTES for sample in samples)
    return "files" if len(files) > 1 and 2 * small > len(samples) else "lines"


def _sample(file: File) -> bytes:
    with file.open() as stream:
        sample = stream.read(SAMPLED_BYTES)
    if (nul := sample.find(0)) >= 0:  # raised before the whole file is read for its digest
        if sample.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            raise DataError(
                f"{file.path} is UTF-16; a corpus is UTF-8 text, as `iconv -f UTF-16 -t UTF-8` makes of it."
            )
        raise DataError(f"{file.path} is no text file: line {sample.count(10, 0, nul) + 1} has a NUL byte.")
    return sample


def _pieces(line: str) -> Iterator[str]:
    """Cut a stripped line at blanks if it is too long, as `read_lines` does."""
    start = 0
    while len(line) - start > LINE:
        blank = line.rfind(" ", start + 1, start + LINE)
        end = blank if blank > 0 else start + LINE
        if piece := line[start:end].strip():
            yield piece
        start = end
    yield line[start:].strip()


def _laid_out(lines: Iterable[tuple[bool, str]], layout: Layout) -> Texts:
    """Mark where documents begin, and skip blank lines."""
    fresh = True
    for begins, text in lines:
        if not text:
            fresh = fresh or layout == "blank"
            continue
        if layout == "tags" and begins and (text.startswith(TAG) or text == END):
            fresh = True
            continue
        if begins and (fresh or layout == "lines"):
            yield Begins.DOCUMENT, text
        else:
            yield Begins.LINE if begins else Begins.PIECE, text
        fresh = False


def _split(texts: Texts) -> Iterator[tuple[bool, str]]:
    """Split a line into sentences if it is a whole document or was cut; keep other lines whole."""
    held: tuple[Begins, str] | None = None
    for begins, text in chain(texts, [(Begins.DOCUMENT, "")]):
        if held:
            new = held[0] is Begins.DOCUMENT
            alone = new and begins is Begins.DOCUMENT
            was_cut = Begins.PIECE in (held[0], begins)
            for passage in SENTENCE.split(held[1]) if alone or was_cut else [held[1]]:
                yield new, passage
                new = False
        held = begins, text
