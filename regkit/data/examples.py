"""Examples: check the rows of a split, and write them as token ids and labels, block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import DataError, short
from regkit.data.declare import TaskSpec
from regkit.data.encode import batches, encode
from regkit.data.labels import is_missing
from regkit.data.rows import check_texts
from regkit.data.stored.flat import Flat, Growing
from regkit.data.stored.held import BLOCK, Held, Numbered, Texts, TextWriter
from regkit.data.tables import Table
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.objectives import Label, Objective, differ
from regkit.tasks.task import Examples, Split


@dataclass(frozen=True)
class Way:
    """How the texts of a task become token ids."""

    tokenizer: Tokenizer
    longest: int  # tokens of a sequence
    keep_texts: bool = False


@dataclass(frozen=True)
class Part:
    """The examples of a split, and how many of their tokens stand for unknown words."""

    examples: Examples
    unknown: int


class Sides(Held[tuple[str, ...]]):
    """The texts of examples: one each, or two."""

    def __init__(self, sides: Sequence[Texts]) -> None:
        super().__init__(len(sides[0]))
        self.sides = sides

    def at(self, places: Sequence[int]) -> Sequence[tuple[str, ...]]:
        return list(zip(*(side.at(places) for side in self.sides), strict=True))


class Files:
    """Where the arrays of a split are: in files of a folder, or in memory for None."""

    def __init__(self, folder: Path | None, split: Split) -> None:
        self.folder, self.split = folder, split

    def __call__(self, name: str) -> Path | None:
        return self.folder and self.folder / f"{self.split}.{name}"

    def map(self, name: str) -> Flat:
        """Map the array of this name. Raises OSError if it is not there."""
        path = self(name)
        assert path is not None  # or else nothing was written
        with path.open("rb") as file:
            return Flat.open(file)


def write_examples(spec: TaskSpec, table: Table, way: Way, files: Files, *, labelled: bool = True) -> Part:
    """Check and write the rows of a table. What is wrong is said before the tokens take their time.

    Raises DataError, which names the line.
    """
    check_texts(spec.text_columns, table)
    labels, unlabelled = write_labels(spec, table, files) if labelled else (None, [])
    ids = _write_ids(table, spec.id, files)
    texts = _write_texts(spec, table, files) if way.keep_texts else ()
    tokens, segments, offsets = (Growing(files(name)) for name in ("tokens", "segments", "offsets"))
    offsets.write(bytes(8))
    end = truncated = unknown = 0
    for batch in batches(_texts(spec, table)):
        found = encode(batch, way.tokenizer, way.longest, spec.pair_mode == "bi_encoder")
        tokens.write(found.tokens.data)
        segments.write(found.segments.data)
        offsets.write((end + np.cumsum(found.lengths)).data)
        end, truncated = end + len(found.tokens), truncated + found.truncated
        unknown += int((found.tokens == way.tokenizer.unk).sum())
    flats = [growing.finish() for growing in (tokens, segments, offsets)]
    sides = 2 if spec.pair_mode == "bi_encoder" else 1
    return Part(Examples(*arrays(*flats), labels, sides, ids, truncated, texts, unlabelled), unknown)


def arrays(tokens: Flat, segments: Flat, offsets: Flat) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take the bytes of examples as the numbers that they are."""
    return as_array(tokens, np.int32), as_array(segments, np.int8), as_array(offsets, np.int64)


def as_array(flat: Flat, kind: "np.typing.DTypeLike") -> np.ndarray:
    """Take bytes as numbers, without a copy."""
    return np.frombuffer(flat.content, kind) if len(flat) else np.empty(0, kind)


def write_labels(spec: TaskSpec, table: Table, files: Files) -> tuple[Tensor, list[int]]:
    """Read the labels, and list the rows of a test split that have none.

    There, another label stands in its place.
    """
    may_be_empty = files.split != "test" or spec.kind == "multilabel"
    rows = table.rows.columns(spec.label_columns)
    stand_in = "" if may_be_empty else next(filter(None, map(spec.label_of, rows)), "")
    missing: list[int] = []
    written, objective, shape = Growing(files("labels")), spec.objective, list[int]()
    texts = enumerate(map(spec.label_of, rows))
    while block := list(islice(texts, BLOCK)):
        missing += [] if may_be_empty else [number for number, text in block if not text]
        values = [_label(spec, objective, table, number, text or stand_in) for number, text in block]
        found = torch.tensor(values, dtype=objective.label_type).numpy()
        written.write(found.tobytes())
        shape = list(found.shape[1:])
    labels = as_labels(written.finish(), objective, shape)
    if files.split == "train" and not differ(labels):
        every, name = short(spec.label_of(rows[0])) or "empty", short(spec.label_name)
        raise DataError(f"{table.name}: every {name} is {every}; nothing can be learned from it.")
    return labels, missing


def as_labels(flat: Flat, objective: Objective, shape: Sequence[int]) -> Tensor:
    """Take bytes as labels: `[examples, *shape]`."""
    kind = torch.empty(0, dtype=objective.label_type).numpy().dtype
    return torch.from_numpy(as_array(flat, kind).reshape(-1, *shape))


def as_ids(flat: Flat, ends: Flat | None) -> Sequence[str]:
    """Take bytes as the names of examples, which end at `ends`, or as the numbers of their rows."""
    if ends is not None:
        return Texts(flat, ends)
    numbers = memoryview(flat.content).cast("q") if len(flat) else ()
    return Numbered(len(numbers), numbers)


def _label(spec: TaskSpec, objective: Objective, table: Table, number: int, text: str) -> Label:
    try:
        return objective.label(text)
    except ValueError as needed:
        remedy = f"; {_leaving_out(text)} leaves such rows out" if is_missing(text) else ""
        said = f"{short(spec.label_name)} is '{short(text)}'; {needed} is needed{remedy}"
        raise DataError(f"{table.where(number)}: {said}.") from None


def _leaving_out(label: str) -> str:
    """Write the option of a task by which rows with this label are left out."""
    return f"skip = ['{label}']" if label else "skip_empty = true"


def _texts(spec: TaskSpec, table: Table) -> Iterator[tuple[str, ...]]:
    for row in table.rows.columns(spec.text_columns):
        yield tuple(row.get(column, "") for column in spec.text_columns)


def _write_ids(table: Table, column: str | None, files: Files) -> Sequence[str]:
    """Name the examples by their ids, or number them. Raises DataError for an empty id."""
    if column is None:
        numbers = Growing(files("ids"))
        for start in range(0, len(table.rows), BLOCK):
            numbers.write(np.array(table.rows.places[start : start + BLOCK], np.int64).data)
        return as_ids(numbers.finish(), None)
    names = TextWriter(files("ids"))
    for number, row in enumerate(table.rows.columns([column])):
        name = row.get(column, "").strip()
        if not name:
            said = f"{column} is empty; without id = '{column}', rows are numbered"
            raise DataError(f"{table.where(number)}: {said}.")
        names.add(name)
    return names.finish()


def _write_texts(spec: TaskSpec, table: Table, files: Files) -> Sides:
    """Write the texts themselves, for a report that shows them."""
    writers = [TextWriter(files(f"text{side}")) for side in range(len(spec.text_columns))]
    for texts in _texts(spec, table):
        for writer, text in zip(writers, texts, strict=True):
            writer.add(text)
    return Sides([writer.finish() for writer in writers])
