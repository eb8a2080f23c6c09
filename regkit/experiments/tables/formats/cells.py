"""Cells: write a table's numbers as all formats show them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log10

from regkit.base.wording import enumerated, in_bytes, printable
from regkit.experiments.tables.table import Column, Cost, Difference, Entry, Row, Table

NOTHING = "-"  # where there is no such value
MOST_DECIMALS = 6
HOLM = "Holm"
HEAD = ("row", "score", "difference", "p", HOLM, "n", "time")


@dataclass(frozen=True)
class Line:
    """A row in one column of the table, as texts under the head."""

    cells: Sequence[str]
    told: bool  # False: a difference that cannot be told from nothing


@dataclass(frozen=True)
class Section:
    """One column of the table with all of its rows."""

    title: str
    lines: Sequence[Line]


@dataclass(frozen=True)
class Layout:
    """A table column by column, one below the other.

    So it fits any width however many tasks there are.
    """

    head: Sequence[str]
    sections: Sequence[Section]


def lay_out(table: Table) -> Layout:
    """Write the table as text. Without two rows that are compared, Holm's p is p, and is left out."""
    sections = [each for column in table.columns for each in _sections(table, column)]
    compared = max((sum(line.cells[2] != "" for line in each.lines) for each in sections), default=0)
    kept = [place for place, name in enumerate(HEAD) if _is_kept(name, compared)]
    cut = [
        Section(each.title, [Line([line.cells[place] for place in kept], line.told) for line in each.lines])
        for each in sections
    ]
    return Layout([HEAD[place] for place in kept], cut)


def _is_kept(name: str, compared: int) -> bool:
    return compared > 1 or (name != HOLM and (compared == 1 or name not in ("difference", "p")))


def _sections(table: Table, column: Column) -> list[Section]:
    """Lay out a column, and below it each method against the plain row that is hardest to beat."""
    rivals = _rival_lines(table, column)
    title = f"{_title(column)}: over the hardest control, for all of them"
    return [Section(_title(column), _lines(table, column)), *([Section(title, rivals)] if rivals else [])]


def _title(column: Column) -> str:
    return f"{printable(str(column))}{', less is better' if column.lower_is_better else ''}"


def _lines(table: Table, column: Column) -> list[Line]:
    decimals = _decimals([row.entries[column] for row in table.rows if column in row.entries])
    found = []
    for row in table.rows:
        entry = row.entries.get(column)
        given = entry.difference if entry else None
        compared = (
            (_difference(given, decimals), probability(given.p), probability(given.adjusted)) if given else [""] * 3
        )
        score = (_score(entry, decimals), str(len(entry.values))) if entry else (NOTHING, "")
        cells = [printable(row.name), score[0], *compared, score[1], _time(row, table)]
        found.append(Line(cells, told=given is None or given.told))
    return found


def _rival_lines(table: Table, column: Column) -> list[Line]:
    decimals = _decimals([row.entries[column] for row in table.rows if column in row.entries])
    found = []
    for row in table.rows:
        entry = row.entries.get(column)
        if entry and (rival := entry.rival):
            given = rival.difference
            compared = (_difference(given, decimals), probability(given.p), probability(given.adjusted))
            name = printable(f"{row.name} over {rival.control}")
            cells = [name, _score(entry, decimals), *compared, str(given.pairs), _time(row, table)]
            found.append(Line(cells, told=given.told))
    return found


def _score(entry: Entry, decimals: int) -> str:
    deviation = f" ± {number(entry.deviation, decimals)}" if isfinite(entry.deviation) else ""
    return f"{number(entry.mean, decimals)}{deviation}"


def _decimals(entries: Sequence[Entry]) -> int:
    """Choose how many decimals a column has, by its largest mean and its least spread."""
    largest = max((abs(entry.mean) for entry in entries if isfinite(entry.mean)), default=0.0)
    spreads = [entry.deviation for entry in entries if isfinite(entry.deviation)]
    return decimals_for(largest, min(filter(None, spreads), default=0.0))


def decimals_for(value: float, spread: float) -> int:
    """Choose how many decimals to write: three below 10, fewer above, and as many as show the spread."""
    usual = 3 if abs(value) < 10 else max(3 - floor(log10(abs(value))), 1)
    needed = ceil(-log10(spread)) if 0 < spread < inf else 0
    return min(max(usual, needed), MOST_DECIMALS)


def number(value: float, decimals: int, *, signed: bool = False) -> str:
    """Write a number without the 0 before the point: `.912`, `+.012`, `-.004`."""
    if not isfinite(value):
        return NOTHING if value != value else ("inf" if value == inf else "-inf")
    text = f"{value:{'+' if signed else ''}z.{decimals}f}"  # z: no minus before a 0
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def probability(value: float) -> str:
    """Write a p with three decimals."""
    return NOTHING if value != value else "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _difference(difference: Difference, decimals: int) -> str:
    """Write a difference, with more decimals than the scores where it is known better than they are."""
    low, mean, high = difference.low, difference.mean, difference.high
    if not isfinite(low):
        return number(mean, decimals, signed=True)
    decimals = max(decimals, decimals_for(mean, (high - low) / 2) if abs(mean) < 10 else 0)
    return f"{number(mean, decimals, signed=True)} [{number(low, decimals)}, {number(high, decimals)}]"


def _time(row: Row, table: Table) -> str:
    """Write how many times the baseline's time a row took."""
    if row.name == table.baseline or row.cost is None or row.cost.seconds_ratio is None:
        return ""
    return times(row.cost.seconds_ratio)


def times(ratio: float | None) -> str:
    """Write a ratio of costs."""
    return NOTHING if ratio is None or not isfinite(ratio) else f"{ratio:.{1 if ratio < 99.95 else 0}f}x"


COST_HEAD = ("row", "time", "over baseline", "memory", "operations")


def costs(table: Table) -> list[tuple[str, ...]]:
    """Write what each row cost, under `COST_HEAD`; nothing where nothing is known."""
    found: list[tuple[str, ...]] = [(printable(row.name), *_cost(row.cost)) for row in table.rows if row.cost]
    return found if any(set(each[1:]) - {NOTHING, times(1.0)} for each in found) else []


def _cost(cost: Cost) -> tuple[str, str, str, str]:
    memory = in_bytes(cost.memory) if isfinite(cost.memory) else NOTHING
    return seconds(cost.seconds), times(cost.seconds_ratio), memory, times(cost.operations)


def seconds(value: float) -> str:
    """Write a time: `0.8 s`, `12 s`, `3 min`, `1.5 h`."""
    if not isfinite(value):
        return NOTHING
    if value < 100:
        return f"{value:.{0 if value >= 9.95 else 1}f} s"
    return f"{value / 60:.0f} min" if value < 5970 else f"{value / 3600:.1f} h"


def remarks(table: Table) -> list[str]:
    """Write the lines below the table: notes, what plugins did, and runs that failed."""
    effects = _by_rows(table, [(row.name, effect) for row in table.rows for effect in row.effects])
    failures = _by_rows(table, [(row.name, said) for row in table.rows for said in _failures(row)])
    return [printable(each) for each in (*table.notes, *effects, *failures)]


def _failures(row: Row) -> list[str]:
    """Write each error of a row's runs once, with its seeds."""
    seeds: dict[str, list[str]] = {}
    for seed, error in sorted(row.failures.items()):
        seeds.setdefault(error, []).append(str(seed))
    return [f"seed{'s' * (len(found) > 1)} {enumerated(found)}, failed: {error}" for error, found in seeds.items()]


def _by_rows(table: Table, said: Iterable[tuple[str, str]]) -> list[str]:
    """Write each sentence once, behind the rows that it holds for."""
    rows: dict[str, list[str]] = {}
    for name, sentence in said:
        rows.setdefault(sentence, []).append(name)
    whole = len(table.rows)
    return [
        f"{'all rows' if 1 < whole == len(names) else enumerated(names)}, {sentence}"
        for sentence, names in rows.items()
    ]
