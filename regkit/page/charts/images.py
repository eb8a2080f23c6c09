"""Images: draw the charts of a page by matplotlib, one file each."""

import re
import warnings
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

from regkit.page.charts.figures import Bars, Curve, Curves, Dots, Figure, Forest, Matrix, Points
from regkit.page.charts.scales import number
from regkit.page.charts.svg import NAMED, STYLES
from regkit.page.document import Document
from regkit.page.text import excerpt, visible

COLOURS = ("#1f5fa8", "#c04a12", "#0a7d5c", "#95408f", "#8d6700", "#2b86ad", "#a3123f", "#4d5a1f")  # as on the page
DASHES = ("-", "--", ":", "-.")
MUTED, QUIET, GRID = "#8b8882", "#5f5c56", "#dcd8cf"
WIDTH, HEIGHT, ROW, DENSITY = 5.4, 3.3, 0.24, 160  # inches, those of a row of intervals or bars, and dots an inch
NAME, LABEL = 70, 24  # characters of a title or the name of a file, and of a label
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}


def save(document: Document, folder: Path) -> int:
    """Write each chart of a page into a folder, numbered in their order, and count them."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    folder.mkdir(parents=True, exist_ok=True)
    charts = list(document.figures())
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a sign that the font does not have is a box
        for place, (section, figure) in enumerate(charts, 1):
            canvas = Canvas(figsize=(WIDTH, _height(figure)), dpi=DENSITY, layout="constrained")
            FigureCanvasAgg(canvas)
            axes = canvas.subplots()
            axes.set_title(_said(f"{section}: {figure.title}", NAME))
            plot(figure, axes)
            canvas.savefig(folder / f"{place:03d}-{file_name(section, figure.title)}.png")
    return len(charts)


def _height(figure: Figure) -> float:
    """Choose a height in inches: many rows below one another need more."""
    rows = len(figure.intervals) if isinstance(figure, Forest) else len(figure.bars) if isinstance(figure, Bars) else 0
    return max(HEIGHT, 1 + ROW * rows)


def file_name(*words: str) -> str:
    """Make a part of a file's name from any words."""
    plain = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
    return plain[:NAME].rstrip("-") or "chart"


def _said(text: str, most: int = LABEL) -> str:
    """Write a text as it is: between dollars, matplotlib would read mathematics."""
    return excerpt(visible(text), most).replace("$", r"\$")


@singledispatch
def plot(figure: Figure, axes: Any) -> None:
    """Draw a chart on matplotlib's axes."""
    raise TypeError(figure)


@plot.register
def _(figure: Curves, axes: Any) -> None:
    for curve in sorted(figure.curves, key=lambda curve: not curve.muted):
        _curve(curve, axes)
    for at, _ in figure.marks:
        axes.axvline(at, color=QUIET, linewidth=0.6, linestyle=":")
    axes.set_xlabel(_said(figure.x))
    if figure.bounds:
        axes.update_datalim([(0, bound) for bound in figure.bounds])
        axes.autoscale_view()
    if len([curve for curve in figure.curves if not curve.muted]) > 1:
        axes.legend(frameon=False, fontsize=7)


def _curve(curve: Curve, axes: Any) -> None:
    colour = MUTED if curve.muted else COLOURS[curve.style % STYLES]
    dashes = DASHES[curve.style % len(DASHES)]
    if curve.band and not curve.muted:
        axes.fill_between(*zip(*curve.band, strict=True), color=colour, alpha=0.14, linewidth=0)
    for member in () if curve.muted else curve.members:
        axes.plot(*_columns(member), color=colour, linewidth=0.5, alpha=0.5)
    marker = "o" if len(curve.points) == 1 else None
    axes.plot(
        *_columns(curve.points), color=colour, linewidth=0.6 if curve.muted else 1.5, linestyle=dashes, marker=marker,
        markersize=3, label=None if curve.muted else _label(curve.name),
    )  # fmt: skip


def _columns(points: Points) -> tuple[Sequence[float], Sequence[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _label(name: str) -> str:
    return _said(name).lstrip("_") or "line"  # matplotlib leaves out what begins with an underscore


@plot.register
def _(figure: Dots, axes: Any) -> None:
    for dot in figure.dots:
        face = "white" if dot.hollow else COLOURS[0]
        axes.scatter([dot.x], [dot.y], s=18 + 90 * dot.weight, c=face, edgecolors=COLOURS[0], linewidths=0.8, alpha=0.8)
        if dot.name:
            axes.annotate(_said(dot.name), (dot.x, dot.y), xytext=(5, 3), textcoords="offset points", fontsize=7)
    if figure.line:
        axes.plot(*_columns(figure.line), color=COLOURS[1], linestyle="--", linewidth=1.2)
    if figure.square:
        axes.axline((0, 0), slope=1, color=QUIET, linewidth=0.6, linestyle=":")
    if figure.bounds:
        axes.set(xlim=figure.bounds, ylim=figure.bounds)
    if figure.logarithmic:
        axes.set_xscale("log")
    if figure.names:
        axes.set_xticks(range(len(figure.names)), [_said(name) for name in figure.names])
    axes.set(xlabel=_said(figure.x), ylabel=_said(figure.y))


@plot.register
def _(figure: Matrix, axes: Any) -> None:
    values = [[float("nan") if value is None else value for value in row] for row in figure.values]
    sums = [sum(abs(value) for value in row if value == value) or 1.0 for row in values]
    shades = (
        [[value / whole for value in row] for row, whole in zip(values, sums, strict=True)] if figure.by_row else values
    )
    axes.imshow(
        shades, cmap="Blues" if figure.by_row else "RdBu", vmin=0 if figure.by_row else -1, vmax=1, aspect="auto"
    )
    axes.grid(visible=False)
    axes.set(xlabel=_said(figure.across), ylabel=_said(figure.down))
    if max(len(figure.rows), len(figure.columns)) > NAMED:
        return
    axes.set_xticks(range(len(figure.columns)), [_said(name) for name in figure.columns], rotation=45, ha="right")
    axes.set_yticks(range(len(figure.rows)), [_said(name) for name in figure.rows])
    for row, shown in enumerate(values):
        for column, value in enumerate(shown):
            dark = abs(shades[row][column]) > 0.6
            if value == value:
                axes.text(
                    column, row, number(value, 2), ha="center", va="center", fontsize=7, color="w" if dark else "k"
                )


@plot.register
def _(figure: Forest, axes: Any) -> None:
    for row, each in enumerate(figure.intervals):
        colour = "black" if each.told else MUTED
        axes.plot([each.low, each.high], [row, row], color=colour, linewidth=2 if each.told else 1)
        axes.plot([each.mean], [row], "o", color=colour, markerfacecolor=colour if each.told else "white", markersize=5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(figure.intervals)), [_said(each.name) for each in figure.intervals])
    axes.invert_yaxis()
    axes.set_xlabel(_said(figure.x))


@plot.register
def _(figure: Bars, axes: Any) -> None:
    values = [value for _, value in figure.bars]
    axes.barh(range(len(values)), values, color=COLOURS[0], height=0.6)
    axes.set_yticks(range(len(values)), [_said(name) for name, _ in figure.bars])
    axes.invert_yaxis()
