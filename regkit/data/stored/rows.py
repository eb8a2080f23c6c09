"""Rows: hold the rows of a table by column, each field as its own bytes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from regkit.data.formats.records import Nested
from regkit.data.stored.flat import Growing
from regkit.data.stored.held import BLOCK, Held, Marks, Texts, TextWriter


class Cells(NamedTuple):
    """The fields of a column."""

    texts: Texts
    nested: Marks  # 1 where the text is the JSON of a list or an object


class Rows(Held[dict[str, str]]):
    """The rows of a table: of each, its fields by column."""

    def __init__(self, cells: Mapping[str, Cells], whole: int) -> None:
        super().__init__(whole)
        self.cells = cells
        self._names: dict[str, Sequence[str]] = {}

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, str]]) -> "Rows":
        """Hold these rows. A field that a row lacks is empty."""
        writer = RowWriter()
        for row in rows:
            writer.add(row)
        return writer.finish()

    def columns(self, names: Iterable[str]) -> "Rows":
        """Take some of the columns: no other is read."""
        return self._with(cells={name: self.cells[name] for name in names if name in self.cells})

    def called(self, column: str, names: Sequence[str]) -> "Rows":
        """Write the class numbers of a column by their names; what is neither number nor name is empty."""
        return self._with(_names={**self._names, column: names})

    def at(self, places: Sequence[int]) -> Sequence[dict[str, str]]:
        if not self.cells:
            return [{} for _ in places]
        columns = [self._column(name, cells, places) for name, cells in self.cells.items()]
        return [dict(zip(self.cells, fields, strict=True)) for fields in zip(*columns, strict=True)]

    def _column(self, name: str, cells: Cells, places: Sequence[int]) -> Sequence[str]:
        found = cells.texts.at(places)
        if any(nested := cells.nested.at(places)):
            found = [Nested(text) if mark else text for text, mark in zip(found, nested, strict=True)]
        return [_class_name(text, self._names[name]) for text in found] if name in self._names else found


class RowWriter:
    """Writes rows one after the other. A field that a row lacks is empty."""

    def __init__(self) -> None:
        self._columns: dict[str, _CellWriter] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, row: Mapping[str, str]) -> None:
        """Append a row. A column that no earlier row had is empty in those."""
        for name in [name for name in row if name not in self._columns]:
            self._columns[name] = _CellWriter()
            for _ in range(self._rows):
                self._columns[name].add("")
        for name, cells in self._columns.items():
            cells.add(row.get(name, ""))
        self._rows += 1

    def finish(self) -> Rows:
        """End the rows."""
        return Rows({name: cells.finish() for name, cells in self._columns.items()}, self._rows)


class _CellWriter:
    """Writes the fields of a column, and which of them are lists or objects."""

    def __init__(self) -> None:
        self._texts, self._marks, self._waiting = TextWriter(), Growing(), bytearray()

    def add(self, field: str) -> None:
        self._texts.add(field)
        self._waiting.append(isinstance(field, Nested))
        if len(self._waiting) == BLOCK:
            self._marks.write(self._waiting)
            self._waiting.clear()

    def finish(self) -> Cells:
        self._marks.write(self._waiting)
        return Cells(self._texts.finish(), Marks(self._marks.finish()))


def _class_name(text: str, names: Sequence[str]) -> str:
    if text in names:
        return text
    return names[int(text)] if text.isdecimal() and int(text) < len(names) else ""
