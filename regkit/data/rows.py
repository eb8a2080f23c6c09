"""Rows: choose those of a table that a task takes, and count those that it leaves out."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from regkit.base.errors import DataError, short
from regkit.data.formats.records import Nested, Value, text_of
from regkit.data.labels import meaning
from regkit.data.stored.held import room_for
from regkit.data.tables import Table
from regkit.tasks.labels import as_number, yes_or_no


@dataclass(frozen=True)
class Choice:
    """Which rows of a table a task takes."""

    texts: Sequence[str]  # columns
    label: Callable[[Mapping[str, str]], str] | None  # reads it off a row; None where the rows need none
    skip: Sequence[str] = ()  # labels whose rows are left out, however a table writes them
    skip_empty: bool = False  # leave out rows without text or label
    may_be_empty: bool = False  # whether a row without label is one: no class of several holds, or it is only predicted
    where: Mapping[str, Value | tuple[Value, ...]] | None = None  # values that other columns must have
    matched: set[str] = field(default_factory=set)  # those labels of `skip` that a row had

    @cached_property
    def _skipped(self) -> dict[str, str]:
        return {meaning(label.strip()): label for label in self.skip}  # blanks at its ends are no part of a label

    def rows(self, table: Table) -> tuple[Table, list[str]]:
        """Take the chosen rows, and say how many were left out and why. Raises DataError if none is left."""
        left: Counter[str] = Counter()
        kept = self._kept(table, left)
        if not left:
            return table, []
        why = ", ".join(f"{count} {reason}" for reason, count in left.most_common())
        if not kept:
            raise DataError(f"{table.name}: every row is left out: {why}.")
        return table.only(kept), [f"{left.total()} of {len(table.rows)} rows are left out: {why}"]

    def _kept(self, table: Table, left: Counter[str]) -> Sequence[int]:
        """List the rows that are chosen, and count the others by why they are left out."""
        kept = room_for(len(table.rows))
        for number, row in enumerate(table.rows):
            if reason := self._reason(row):
                left[reason] += 1
            else:
                kept.append(number)
        return kept

    def _reason(self, row: Mapping[str, str]) -> str:
        """Say why a row is left out; nothing if it is not."""
        for column, wanted in (self.where or {}).items():
            several: Sequence[Value] = wanted if isinstance(wanted, tuple) else (wanted,)
            if not any(_is(row.get(column, "").strip(), each) for each in several):
                return f"whose {column} is not {' or '.join(map(_shown, several))}"
        label = self.label(row) if self.label else ""
        skipped = self._skipped.get(meaning(label)) if self.label and self.skip else None
        if skipped is not None and (label or not self.skip_empty or self.may_be_empty):
            self.matched.add(skipped)
            return f"labelled '{short(label)}'"
        if self.skip_empty and self.label and not label and not self.may_be_empty:
            return "without label"
        if self.skip_empty and not all(row.get(column, "").strip() for column in self.texts):
            return "without text"
        return ""


def _is(text: str, wanted: Value) -> bool:
    """Tell whether a field has a value, as labels are read: 1.0 is 1, and True is true."""
    if isinstance(wanted, bool):
        with suppress(ValueError):
            return yes_or_no(text) == wanted
        return False
    value = text_of(wanted).strip()
    return text == value or (as_number(text) is not None and as_number(text) == as_number(value))


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else text_of(value).strip()


def check_texts(columns: Sequence[str], table: Table) -> None:
    """Raise DataError, with the line, for a text that is empty, or that is a list or an object."""
    for column in columns:
        for number, row in enumerate(table.rows.columns([column])):
            text = row.get(column, "")
            if isinstance(text, Nested):
                found = json.loads(text)
                inside = next(iter(found), "") if isinstance(found, dict) else 0
                needed = f"a text is needed, such as {short(f'{column}.{inside}')}"
                raise DataError(f"{table.where(number)}: {column} is {short(text)}; {needed}.")
            if not text.strip():
                remedy = "skip_empty = true leaves such rows out"
                raise DataError(f"{table.where(number)}: {column} is empty; {remedy}.")


def is_placeholder(labels: Iterable[str]) -> str | None:
    """Tell which placeholder stands for every label of a test split; None if they are labels.

    It is nothing, -1 or 0.
    """
    found: Counter[str] = Counter()
    for label in labels:
        found[label] += 1
        if len(found) > 1:
            return None
    if not found or (found.total() < 2 and "" not in found):
        return None
    (only,) = found
    return only if only == "" or as_number(only) in (-1.0, 0.0) else None
