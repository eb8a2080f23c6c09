"""Table: hold what many runs say together.

Of each row these are its scores, its difference from the baseline, and its cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from math import isfinite
from typing import Any

from regkit.tasks.names import UNDER

MEAN = "mean"  # the column of the mean over tasks
DROP = "drop"  # the score of how far the last evaluation is below the best
DOUBT = 0.05  # the most for a difference that is told


@dataclass(frozen=True)
class Column:
    """Name a score: of a task on a split, or the mean over tasks, which has no metric of its own."""

    split: str  # or a split and what was done to its examples: `dev under typos`
    task: str
    metric: str = ""
    lower_is_better: bool = False

    def __str__(self) -> str:
        """Write it as a table's head does: `dev sst accuracy`, `dev sst accuracy under typos`."""
        split, under, change = self.split.partition(UNDER)
        return " ".join(filter(None, [split, self.task, self.metric])) + under + change


@dataclass(frozen=True)
class Difference:
    """How a row differs from the baseline in one score; above 0 is more, whether that is better or not."""

    mean: float
    low: float  # ends of the interval, over seeds and examples; NaN where one seed is all there is
    high: float
    p: float  # of the exact sign-flip test, two-sided
    adjusted: float  # by Holm's method over the rows of the column
    pairs: int  # seeds that both have
    smallest: float  # the least p that so many pairs can give
    needed: int | None  # seeds that would tell a difference of this size, by the spread; None where nothing can be said
    doubt: float = 0.0  # 1 - level of the widest interval that leaves 0 out, by Holm's method over the rows

    @property
    def told(self) -> bool:
        """Whether it can be told from nothing: the interval leaves 0 out, and not only as one of many rows.

        Two seeds tell nothing: they may agree by chance.
        """
        return self.pairs > 2 and (self.low > 0 or self.high < 0) and self.doubt <= DOUBT


@dataclass(frozen=True)
class Rival:
    """The plain row that a method has most to do to beat, and how far the method is from it."""

    control: str
    difference: Difference  # its p and doubt are the largest over all controls (Berger, 1982), by Holm over the methods


@dataclass(frozen=True)
class Entry:
    """A cell: the score of one row over its seeds."""

    values: Mapping[int, float]  # by seed
    mean: float
    deviation: float  # of the sample, over seeds; NaN for one seed
    difference: Difference | None = None  # None for the baseline
    rival: Rival | None = None  # of a method, where there are several controls


@dataclass(frozen=True)
class Cost:
    """What a row's runs took, as means over seeds, and beside the baseline's."""

    seconds: float  # of training
    memory: float  # bytes, at the peak
    operations: float  # of a step, over those of a plain one
    seconds_ratio: float | None = None  # over the baseline's, as the median over paired seeds


@dataclass(frozen=True)
class Row:
    """A row: a named set of plugins and settings, and what its runs came to."""

    name: str
    settings: Mapping[str, Any]  # what differs from the settings that all rows share; plugins under `plugins`
    entries: Mapping[Column, Entry] = field(default_factory=dict)
    cost: Cost | None = None
    effects: Sequence[str] = ()  # lines of the effect meter: "'smart' gives 5 % of the gradient"
    failures: Mapping[int, str] = field(default_factory=dict)  # by seed: the sentence of a run that failed
    missing: Sequence[int] = ()  # seeds whose run is not finished


@dataclass(frozen=True)
class Table:
    """An ablation, whole or as far as it is."""

    name: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    baseline: str
    notes: Sequence[str] = ()  # what whoever reads the table must know

    def as_json(self) -> dict[str, Any]:
        """Put it into plain values, as JSON has them; a number that is not there is None."""
        rows = [vars(row) | {"entries": [_entry(*each) for each in row.entries.items()]} for row in self.rows]
        found = {"name": self.name, "baseline": self.baseline, "rows": rows, "notes": self.notes}
        return dict(_plain(found))


def _entry(column: Column, entry: Entry) -> dict[str, Any]:
    """Put a cell beside the name of its column."""
    rival = entry.rival and {"control": entry.rival.control, **_difference(entry.rival.difference)}
    difference = entry.difference and _difference(entry.difference)
    return vars(column) | vars(entry) | {"difference": difference, "rival": rival}


def _difference(difference: Difference) -> dict[str, Any]:
    return vars(difference) | {"told": difference.told}


def _plain(value: Any) -> Any:
    """Turn what a table holds into dictionaries, lists, texts, and numbers that are finite."""
    if is_dataclass(value):
        return _plain(vars(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):  # those of numpy, too
        return float(value) if isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else str(value)
