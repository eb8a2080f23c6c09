"""Rows: choose those of a table that a task takes, and count those that it leaves out."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from regkit.base.errors import DataError, short
from regkit.data.formats.records import Value, text_of
from regkit.data.labels import as_number
from regkit.data.tables import Table


@dataclass(frozen=True)
class Choice:
    """Which rows of a table a task takes."""

    texts: Sequence[str]  # columns
    label: Callable[[Mapping[str, str]], str] | None  # reads it off a row; None where the rows need none
    skip: Sequence[str] = ()  # labels whose rows are left out
    skip_empty: bool = False  # leave out rows without text or label
    may_be_empty: bool = False  # whether a row without label is one: no class of several holds, or it is only predicted
    where: Mapping[str, Value | Sequence[Value]] | None = None  # values that other columns must have

    def rows(self, table: Table) -> tuple[Table, list[str]]:
        """Take the chosen rows, and say how many were left out and why. Raises DataError if none is left."""
        reasons = [self._reason(row) for row in table.rows]
        left = Counter(filter(None, reasons))
        if not left:
            return table, []
        kept = [number for number, reason in enumerate(reasons) if not reason]
        why = ", ".join(f"{count} {reason}" for reason, count in left.most_common())
        if not kept:
            raise DataError(f"{table.name}: every row is left out: {why}.")
        return table.only(kept), [f"{sum(left.values())} of {len(reasons)} rows are left out: {why}"]

    def _reason(self, row: Mapping[str, str]) -> str:
        """Say why a row is left out; nothing if it is not."""
        for column, wanted in (self.where or {}).items():
            if row.get(column, "").strip() not in _texts(wanted):
                return f"whose {column} is not {' or '.join(_texts(wanted))}"
        label = self.label(row) if self.label else ""
        if self.label and label in self.skip and (label or not self.skip_empty or self.may_be_empty):
            return f"labelled '{short(label)}'"
        if self.skip_empty and self.label and not label and not self.may_be_empty:
            return "without label"
        if self.skip_empty and not all(row.get(column, "").strip() for column in self.texts):
            return "without text"
        return ""


def _texts(wanted: Value | Sequence[Value]) -> list[str]:
    values = wanted if isinstance(wanted, list | tuple) else [wanted]
    return [text_of(each).strip() for each in values]


def is_placeholder(labels: Sequence[str]) -> str | None:
    """Tell which placeholder stands for every label of a test split; None if they are labels.

    It is nothing, -1 or 0.
    """
    found = set(labels)
    if len(found) != 1 or (len(labels) < 2 and found != {""}):
        return None
    only = found.pop()
    return only if only == "" or as_number(only) in (-1.0, 0.0) else None


def contradicted(texts: Sequence[tuple[str, ...]], labels: Iterable[object]) -> int:
    """Count the rows whose text has another label in another row."""
    found: dict[tuple[str, ...], set[object]] = defaultdict(set)
    for text, label in zip(texts, labels, strict=True):
        found[text].add(label)
    return sum(len(found[text]) > 1 for text in texts)


def repeated(texts: Sequence[tuple[str, ...]], other: Sequence[tuple[str, ...]] = ()) -> int:
    """Count the rows whose text stands in an earlier row, or in another table."""
    if other:
        known = set(other)
        return sum(text in known for text in texts)
    return len(texts) - len(set(texts))
