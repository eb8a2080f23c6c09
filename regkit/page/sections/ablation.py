"""Ablation: the sections of a page that show a study's table - scores, differences, costs, failures."""

from collections.abc import Mapping, Sequence

from regkit.base.wording import in_bytes, in_time
from regkit.experiments.tables.table import MEAN, Column, Difference, Entry, Row, Table
from regkit.page.charts.figures import Dot, Dots, Forest, Interval
from regkit.page.charts.scales import DASH, fixed, is_number, number, signed
from regkit.page.document import Block, Cell, Grid, Note, Panel, Section
from regkit.page.reading.groups import brief
from regkit.page.words import interval

TESTED = ("difference", "95 % interval", "p", "Holm's p", "pairs", "least p", "seeds needed")
FOLDED = 24  # rows of a table that is folded where it has more


def sections(table: Table, title: str = "") -> list[Section]:
    """Make the sections of a table.

    `title` is put before their headings, where a page shows several studies.
    """
    before = f"{title}: " if title else ""
    made = [
        Section(f"{before}Scores by row", _scores(table)),
        Section(f"{before}Differences from {table.baseline}", _differences(table)),
        Section(f"{before}Methods against every control", _rivals(table)),
        Section(f"{before}Costs", _costs(table)),
        Section(f"{before}What is missing", _failures(table)),
    ]
    return [section for section in made if section.blocks]


def _scores(table: Table) -> list[Block]:
    rows = [[Cell(row.name, _settings(row)), *(_score(row, column) for column in table.columns)] for row in table.rows]
    caption = (
        f"Mean and standard deviation over seeds; below, the difference from {table.baseline} with its 95 % interval"
    )
    blocks: list[Block] = [Grid(caption, ["row", *map(str, table.columns)], rows)] if table.columns else []
    said = [*table.notes]
    if any(_told(row, column) for row in table.rows for column in table.columns):
        said.append("Bold: a difference that can be told from nothing. Grey: one that cannot.")
    return blocks + ([Note(said)] if said else [])


def _settings(row: Row) -> str:
    """Write what a row sets, where its name does not say it."""
    plugins = row.settings.get("plugins")
    if isinstance(plugins, dict):
        options = {name: brief(given) if given else "" for name, given in plugins.items()}
        plugins = " + ".join(f"{name} ({given})" if given else str(name) for name, given in options.items())
    others = [f"{name} {brief(value)}" for name, value in row.settings.items() if name != "plugins"]
    said = "; ".join(filter(None, [brief(plugins) if plugins else "", *others]))
    return "" if said == row.name else said


def _told(row: Row, column: Column) -> bool:
    difference = _difference(row, column)
    return bool(difference and difference.told)


def _difference(row: Row, column: Column) -> Difference | None:
    entry = row.entries.get(column)
    return entry.difference if entry else None


def _score(row: Row, column: Column) -> Cell:
    entry = row.entries.get(column)
    if entry is None:
        return Cell(DASH, weak=True)
    difference = entry.difference
    if difference is None:
        return Cell(_mean(entry))
    below = f"{signed(difference.mean)} {interval(difference.low, difference.high)}".strip()
    return Cell(_mean(entry), below, strong=difference.told, weak=not difference.told)


def _mean(entry: Entry) -> str:
    """Write a mean, and the deviation with as many decimals."""
    mean, deviation = fixed(entry.mean), entry.deviation
    if deviation != deviation:
        return mean
    spread = fixed(deviation) if "e" in mean else f"{deviation:.{len(mean.partition('.')[2])}f}"
    return f"{mean} \N{PLUS-MINUS SIGN} {spread}"


def _differences(table: Table) -> list[Block]:
    """Draw the differences of each score, and list their p-values."""
    found = {
        column: [(row.name, each) for row in table.rows if (each := _difference(row, column))]
        for column in table.columns
    }
    said = f"Row minus {table.baseline}, the same seeds, with 95 % intervals. Filled: told from nothing."
    caption = "Differences, exact sign-flip tests, and how many seeds would tell a difference of this size"
    return _compared(found, said, "row", caption)


def _rivals(table: Table) -> list[Block]:
    """Draw what each method gains over the plain row that is hardest to beat, and list the p-values."""
    found: dict[Column, list[tuple[str, Difference]]] = {column: [] for column in table.columns}
    for row in table.rows:
        for column, entry in row.entries.items():
            if rival := entry.rival:
                found[column].append((f"{row.name} over {rival.control}", rival.difference))
    said = "Method minus the control that is hardest to beat. Filled: better than every control."
    caption = "The largest p over all controls: better than plain training is who beats each of them"
    return _compared(found, said, "method over its hardest control", caption)


def _compared(
    found: Mapping[Column, Sequence[tuple[str, Difference]]], said: str, who: str, caption: str
) -> list[Block]:
    """Draw named differences by score, and list them with their p-values; nothing where there are none."""
    forests, rows = [], []
    for column, each in found.items():
        if each:
            better = "lower is better" if column.lower_is_better else "higher is better"
            shown = [Interval(name, one.mean, one.low, one.high, one.told) for name, one in each]
            forests.append(Forest(str(column), shown, f"difference, {better}"))
        rows += [_tested(column, name, one) for name, one in each]
    if not forests:
        return []
    head = ["score", who, *TESTED]
    return [Panel(said, forests), Grid(caption, head, rows, frozenset({0, 1}), folded=len(rows) > FOLDED)]


def _tested(column: Column, name: str, found: Difference) -> list[str | Cell]:
    cells = [
        name,
        signed(found.mean),
        interval(found.low, found.high) or DASH,
        number(found.p),
        number(found.adjusted),
        str(found.pairs),
        number(found.smallest),
        DASH if found.needed is None else str(found.needed),
    ]
    return [str(column), *(Cell(cell, strong=found.told, weak=not found.told) for cell in cells)]


def _costs(table: Table) -> list[Block]:
    """Draw the mean score against the time, and list what the runs of each row took."""
    rows = [
        [row.name, _time(row.cost.seconds), _times(_ratio(table, row)), _times(row.cost.operations),
         in_bytes(row.cost.memory) if is_number(row.cost.memory) else DASH, "; ".join(row.effects)]
        for row in table.rows
        if row.cost
    ]  # fmt: skip
    head = ["row", "time of training", "time", "operations", "peak memory", "effects"]
    caption = f"Means over seeds; times and operations as multiples, of {table.baseline} and of a plain step"
    blocks: list[Block] = [Grid(caption, head, rows, frozenset({0, 5}))] if rows else []
    column = _main(table)
    dots = [dot for row in table.rows if column and (dot := _dot(table, row, column))]
    if column and len(dots) > 1:
        chart = Dots(f"{column} against time", dots, f"time, as a multiple of {table.baseline}", str(column))
        blocks.insert(0, Panel("Score against cost. Hollow: not told from the baseline.", [chart]))
    return blocks


def _main(table: Table) -> Column | None:
    """Choose the score that costs are compared with: the mean over tasks, where there is one."""
    means = [column for column in table.columns if column.task == MEAN]
    return next(iter([*means, *table.columns]), None)


def _ratio(table: Table, row: Row) -> float | None:
    """Find the time of a row as a multiple of the baseline's, which is 1 for that itself."""
    return 1.0 if row.name == table.baseline else row.cost.seconds_ratio if row.cost else None


def _dot(table: Table, row: Row, column: Column) -> Dot | None:
    ratio = _ratio(table, row)
    entry = row.entries.get(column)
    if ratio is None or entry is None:
        return None
    return Dot(ratio, entry.mean, row.name, hollow=row.name != table.baseline and not _told(row, column))


def _time(seconds: float) -> str:
    return in_time(seconds) if is_number(seconds) else DASH


def _times(ratio: float | None) -> str:
    return DASH if ratio is None or ratio != ratio else f"{number(ratio)}\N{MULTIPLICATION SIGN}"


def _failures(table: Table) -> list[Block]:
    failed: list[Sequence[str | Cell]] = [
        [row.name, str(seed), said] for row in table.rows for seed, said in row.failures.items()
    ]
    missing = [f"{row.name}: {', '.join(map(str, row.missing))}" for row in table.rows if row.missing]
    found: list[Block] = [Note([f"Not finished, by seed: {'; '.join(missing)}."], warning=True)] if missing else []
    head = ["row", "seed", "what it said"]
    return found + ([Grid("Runs that failed", head, failed, frozenset({0, 2}))] if failed else [])
