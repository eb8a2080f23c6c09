"""Table: compare contenders - check that they compute the same, time them in turn, measure their memory, show it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

from tests.benchmarks.alike import compare
from tests.benchmarks.options import Options
from tests.benchmarks.peak import Peak, alone, peak_of
from tests.benchmarks.surroundings import peak_operations
from tests.benchmarks.turns import WARM_UP, Spread, Way, clock_of, in_turn, ratios

INSTALL = "its library is not installed (pip install 'regkit[bench]')."


@dataclass(frozen=True)
class Contender:
    """One row of a table before it is measured."""

    name: str
    make: Callable[[], Way]  # can be pickled: memory is measured in a process of its own
    needs: str = ""  # the module of another library
    alike: bool = True  # computes what the first row does, without dropout


@dataclass(frozen=True)
class Row:
    """What was measured of one way."""

    name: str
    seconds: Spread
    ratio: Spread  # of each round's seconds to those of the first row
    rate: float | None = None  # tokens, or texts, a second
    share_of_peak: float | None = None  # of the operations that the card can do
    memory: Peak | None = None


@dataclass(frozen=True)
class Table:
    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    unit: str = "tokens"
    figures: Mapping[str, str] = field(default_factory=dict)  # what has no place in a row


def measure(
    title: str,
    contenders: Sequence[Contender],
    options: Options,
    *,
    memory: bool = False,
    operations: float | None = None,
    unit: str = "tokens",
) -> Table:
    """Measure the contenders whose libraries are there, against the first. Raises UnlikeError before any is timed.

    `operations` are those of a unit of work.
    """
    present, notes = there(contenders)
    sizes = {each.name: alone(peak_of, each.make, options) for each in present} if memory else {}
    ways = {each.name: each.make() for each in present}
    outcomes = {each.name: made() for each in present if each.alike and (made := ways[each.name].outcome)}
    notes += compare(outcomes, options.precision) if outcomes else []
    taken = in_turn({name: way.work for name, way in ways.items()}, options.rounds, clock_of(options.device))
    peak = peak_operations(options.device, options.precision)
    rows = [
        replace(row, rate=rate, share_of_peak=rate * operations / peak if rate and operations and peak else None)
        for row in rows_of(taken, sizes)
        for rate in [_rate(ways[row.name], taken[row.name])]
    ]
    return Table(title, rows, notes, unit)


def there(contenders: Sequence[Contender]) -> tuple[list[Contender], list[str]]:
    """Part the contenders whose libraries are installed from those of which it is said that they are left out."""
    present = [each for each in contenders if not each.needs or find_spec(each.needs)]
    return present, [f"{each.name} is left out: {INSTALL}" for each in contenders if each not in present]


def rows_of(taken: Mapping[str, Sequence[float]], sizes: Mapping[str, Peak]) -> list[Row]:
    """Make a row of each way from its seconds by round, and from its memory where that was measured."""
    found = ratios(taken)
    return [Row(name, Spread.of(taken[name]), Spread.of(found[name]), memory=sizes.get(name)) for name in taken]


def _rate(way: Way, times: Sequence[float]) -> float | None:
    """Compute the units of work a second, warm-up left out."""
    return sum(map(way.units, range(WARM_UP, WARM_UP + len(times)))) / sum(times) if way.units else None


Cell = Callable[[Row, Table], str]
COLUMNS: Mapping[str, Cell] = {
    "way": lambda row, table: row.name,
    "ms": lambda row, table: f"{row.seconds.median * 1000:.4g}",
    "ratio": lambda row, table: f"{row.ratio.median:.3f}",
    "quartiles": lambda row, table: f"{row.ratio.low:.3f} to {row.ratio.high:.3f}" if row is not table.rows[0] else "",
    "{unit} a second": lambda row, table: f"{row.rate:.0f}" if row.rate else "",
    "of the card's peak": lambda row, table: f"{row.share_of_peak:.1%}" if row.share_of_peak else "",
    "loaded, MB": lambda row, table: f"{row.memory.loaded / 1e6:.0f}" if row.memory and row.memory.loaded else "",
    "peak, MB": lambda row, table: f"{row.memory.most / 1e6:.0f}" if row.memory else "",
    "peak, ratio": lambda row, table: (
        f"{row.memory.most / first.most:.2f}" if row.memory and (first := table.rows[0].memory) else ""
    ),
}


def shown(table: Table) -> str:
    """Write a table in Markdown, without the columns of which nothing was measured."""
    columns = {name: [cell(row, table) for row in table.rows] for name, cell in COLUMNS.items()}
    kept = {name.format(unit=table.unit): cells for name, cells in columns.items() if any(cells)}
    lines = [list(kept), ["---"] * len(kept), *map(list, zip(*kept.values(), strict=True))]
    body = [f"| {' | '.join(cells)} |" for cells in lines]
    figures = [f"* {name}: {figure}" for name, figure in table.figures.items()]
    blocks = [[f"## {table.title}"], body if table.rows else [], figures, table.notes]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"
