"""Figures: what a chart shows, as plain numbers; `svg` and `png` draw them."""

from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Points = Sequence[Point]


@dataclass(frozen=True)
class Curve:
    """A line over steps, with what it stands for.

    That is a band from lowest to highest, and each member as a thin line.
    """

    name: str
    points: Points
    band: Sequence[tuple[float, float, float]] = ()  # x, lowest, highest
    members: Sequence[Points] = ()
    style: int = 0  # colour and dashes: the same for the same thing in all charts of a panel
    muted: bool = False  # one of too many to be told apart by colours


@dataclass(frozen=True)
class Curves:
    """Lines over a common axis, most often that of steps."""

    title: str
    curves: Sequence[Curve]
    x: str = "step"
    bounds: tuple[float, float] | None = None  # numbers that the vertical axis holds in any case
    end: float = 0.0  # of the horizontal axis, at least: that of the charts beside it
    marks: Sequence[tuple[float, str]] = ()  # places on the horizontal axis: the begin of a stage, a skipped step


@dataclass(frozen=True)
class Dot:
    """A point with two numbers; with a name, the name is written beside it."""

    x: float
    y: float
    name: str = ""
    weight: float = 0.0  # from 0 to 1: how large it is
    hollow: bool = False  # counts less: it was not finished
    strong: bool = True


@dataclass(frozen=True)
class Dots:
    """Points over two axes."""

    title: str
    dots: Sequence[Dot]
    x: str
    y: str
    square: bool = False  # both axes are the same, and where they are equal is a line
    bounds: tuple[float, float] | None = None  # of both axes, if they are the same
    logarithmic: bool = False  # the horizontal axis
    line: Points = ()  # through the points, such as the best so far
    names: Sequence[str] = ()  # of the whole numbers on the horizontal axis, from 0: choices that are no numbers


@dataclass(frozen=True)
class Matrix:
    """A number for each pair of a row and a column, as shades; None where there is none."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    down: str = ""  # what the rows are
    across: str = ""
    by_row: bool = False  # a shade is a share of the row's sum: how often one class is taken for another


@dataclass(frozen=True)
class Interval:
    """A difference with its interval; `told` if the interval leaves 0 out."""

    name: str
    mean: float
    low: float
    high: float
    told: bool


@dataclass(frozen=True)
class Forest:
    """Differences with their intervals, one below the other, beside 0."""

    title: str
    intervals: Sequence[Interval]
    x: str = "difference"


@dataclass(frozen=True)
class Bars:
    """Numbers from 0 on, as bars one below the other."""

    title: str
    bars: Sequence[tuple[str, float]]
    percent: bool = False  # the numbers are shares


Figure = Curves | Dots | Matrix | Forest | Bars
