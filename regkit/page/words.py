"""Words: describe a chart in a sentence and in a table, for those who do not see it."""

from collections.abc import Sequence
from functools import singledispatch

from regkit.page.charts.figures import Bars, Curve, Curves, Dots, Figure, Forest, Matrix
from regkit.page.charts.scales import number, signed
from regkit.page.document import Grid

MOST = 20  # rows and columns of a matrix that is written out


def interval(low: float, high: float) -> str:
    """Write the ends of an interval; nothing where there are none."""
    return f"[{signed(low)}, {signed(high)}]" if low == low and high == high else ""


@singledispatch
def sentence(figure: Figure) -> str:
    """Say what a chart shows."""
    raise TypeError(figure)


@sentence.register
def _(figure: Curves) -> str:
    said = [
        f"{curve.name}: from {number(curve.points[0][1])} at {figure.x} {number(curve.points[0][0])} to "
        f"{number(curve.points[-1][1])} at {number(curve.points[-1][0])}"
        for curve in figure.curves[:8]
        if curve.points
    ]
    more = f"; and {len(figure.curves) - 8} more lines" if len(figure.curves) > 8 else ""
    return f"{'; '.join(said) or 'no points'}{more}."


@sentence.register
def _(figure: Dots) -> str:
    named = [f"{dot.name} at {number(dot.x)} and {number(dot.y)}" for dot in figure.dots if dot.name]
    points = "; ".join(named[:20]) or f"{len(figure.dots)} points"
    return f"{figure.y} against {figure.x}: {points}."


@sentence.register
def _(figure: Matrix) -> str:
    return f"{len(figure.rows)} rows ({figure.down}) and {len(figure.columns)} columns ({figure.across})."


@sentence.register
def _(figure: Forest) -> str:
    said = [f"{each.name} {signed(each.mean)} {interval(each.low, each.high)}" for each in figure.intervals[:20]]
    return f"{figure.x}: {'; '.join(said)}."


@sentence.register
def _(figure: Bars) -> str:
    return f"{'; '.join(f'{name} {_value(figure, value)}' for name, value in figure.bars[:20])}."


def tables(figures: Sequence[Figure]) -> list[Grid]:
    """Write the numbers of charts as tables; for clouds of points without names there is none."""
    curves = [(figure, curve) for figure in figures if isinstance(figure, Curves) for curve in figure.curves]
    found = [_of_curves(curves)] if curves else []
    for figure in figures:
        if isinstance(figure, Bars):
            rows = [[name, _value(figure, value)] for name, value in figure.bars]
            found.append(Grid(figure.title, ["", "share" if figure.percent else "value"], rows))
        if isinstance(figure, Matrix) and max(len(figure.rows), len(figure.columns)) <= MOST:
            found.append(_of_matrix(figure))
        if isinstance(figure, Dots) and any(dot.name for dot in figure.dots):
            rows = [[dot.name, number(dot.x), number(dot.y)] for dot in figure.dots if dot.name]
            found.append(Grid(figure.title, ["", figure.x, figure.y], rows))
    return found


def _of_curves(curves: Sequence[tuple[Curves, Curve]]) -> Grid:
    rows = []
    for figure, curve in curves:
        values = [y for _, y in curve.points]
        ends = [values[0], values[-1], min(values), max(values)] if values else []
        rows.append([f"{figure.title}: {curve.name}", *(number(value) for value in ends)])
    return Grid("Lines as they are drawn", ["line", "first", "last", "lowest", "highest"], rows)


def _of_matrix(figure: Matrix) -> Grid:
    head = [" / ".join(filter(None, [figure.down, figure.across])), *figure.columns]
    rows = [
        [name, *("" if value is None else number(value) for value in values)]
        for name, values in zip(figure.rows, figure.values, strict=True)
    ]
    return Grid(figure.title, head, rows)


def _value(figure: Bars, value: float) -> str:
    return f"{number(100 * value, 2)} %" if figure.percent else number(value)
