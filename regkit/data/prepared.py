"""Prepared: the rows of a task, and what was found out and said about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from regkit.data.declare import TaskSpec
from regkit.data.stored.held import Made
from regkit.data.tables import Table
from regkit.tasks.names import Split


@dataclass
class Prepared:
    """The rows of a task, its declaration with nothing left open, and remarks."""

    spec: TaskSpec
    tables: dict[Split, Table] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unlabelled: set[Split] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)  # labels of `skip` that rows have

    def labels(self, split: Split) -> Sequence[str]:
        """Return the labels of a split, as its table writes them."""
        return Made(self.spec.label_of, self.tables[split].rows.columns(self.spec.label_columns))

    def texts(self, split: Split) -> Sequence[tuple[str, ...]]:
        """Return the texts of a split, one or two a row."""
        columns = self.spec.text_columns
        return Made(partial(_fields, columns), self.tables[split].rows.columns(columns))


def _fields(columns: Sequence[str], row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row.get(column, "") for column in columns)
