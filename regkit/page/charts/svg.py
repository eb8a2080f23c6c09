"""SVG: draw charts. Colours are classes of the page's style, so that they follow its scheme."""

import math
from collections.abc import Iterable, Sequence
from functools import singledispatch

from markupsafe import Markup

from regkit.page.charts.figures import Bars, Curve, Curves, Dot, Dots, Figure, Forest, Matrix
from regkit.page.charts.markup import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    cut,
    element,
    horizontal_axis,
    label,
    path,
    short,
    stroke,
    vertical_axis,
    width_of,
)
from regkit.page.charts.scales import Scale, fitted, number
from regkit.page.words import sentence

HEIGHT = 204  # of a chart over steps
FLAT = 22  # below a chart whose axis has its name beside the numbers
HEAD = 24  # above a chart whose vertical axis has a name
CELL, LOW = 56.0, 36.0  # the largest width and height of a cell
ROW = 20  # the height of a row of bars or intervals
STYLES = 8  # colours; with dashes, as many more
NAMED = 20  # rows and columns of a matrix that have names, and numbers in their cells


def draw(figure: Figure, key: str) -> Markup:
    """Draw a chart; `key` is a name that no other has on the page, for what reads it aloud."""
    height, parts = _parts(figure)
    said = element("title", figure.title, id=f"{key}-title") + element("desc", sentence(figure), id=f"{key}-desc")
    return element(
        "svg",
        said + Markup("").join(parts),
        viewBox=f"0 0 {WIDTH} {short(height)}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


@singledispatch
def _parts(figure: Figure) -> tuple[float, list[Markup]]:
    """Draw the parts of a chart, and say how high it is."""
    raise TypeError(figure)


@_parts.register
def _(figure: Curves) -> tuple[float, list[Markup]]:
    lines = [line for curve in figure.curves for line in (curve.points, *curve.members)]
    bands = [(x, y) for curve in figure.curves for x, low, high in curve.band for y in (low, high)]
    points = [point for line in lines for point in line] + bands
    across = _over([x for x, _ in points] + ([figure.end] if figure.end else []))
    down = fitted((y for _, y in points), HEIGHT - FLAT, TOP, bounds=figure.bounds)
    parts = vertical_axis(down) + horizontal_axis(across, figure.x, HEIGHT, bottom=FLAT)
    for place, said in figure.marks:
        mark = stroke(across(place), TOP, across(place), HEIGHT - FLAT, "mark")
        parts.append(element("g", element("title", said) + mark))
    order = sorted(figure.curves, key=lambda curve: not curve.muted)  # what is grey lies below
    return HEIGHT, parts + [part for curve in order for part in _curve(curve, across, down, len(order) == 1)]


def _over(values: Sequence[float]) -> Scale:
    """Make a horizontal scale of steps: it begins at 0, and ends where they do."""
    low, high = min([0.0, *values]), max(values, default=1.0)
    return Scale(low, high, LEFT, WIDTH - RIGHT) if low < high else fitted(values, LEFT, WIDTH - RIGHT)


def _curve(curve: Curve, across: Scale, down: Scale, alone: bool) -> Iterable[Markup]:
    style = "muted" if curve.muted else f"s{curve.style % STYLES}"
    if curve.band and not curve.muted:
        edge = [(x, high) for x, _, high in curve.band] + [(x, low) for x, low, _ in reversed(curve.band)]
        yield element("path", d=f"{path(edge, across, down)}Z", class_=f"band {style}")
    for member in () if curve.muted else curve.members:
        if len(member) > 1:
            yield element("path", d=path(member, across, down), class_=f"thin {style}")
    dashes = f" d{curve.style // STYLES % 4}" if curve.style >= STYLES else ""
    if len(curve.points) > 1:
        yield element("path", d=path(curve.points, across, down), class_=f"line {style}{dashes}")
    if len(curve.points) == 1 or (curve.points and alone):
        x, y = curve.points[-1]
        yield element("circle", cx=across(x), cy=down(y), r=2.5, class_=f"dot {style}")


@_parts.register
def _(figure: Dots) -> tuple[float, list[Markup]]:
    height = WIDTH - LEFT - RIGHT + HEAD + BOTTOM if figure.square else HEIGHT + HEAD
    dots = [dot for dot in figure.dots if math.isfinite(dot.x) and math.isfinite(dot.y)]
    across, down = _two_scales(figure, dots, height)
    parts = vertical_axis(down) + horizontal_axis(across, figure.x, height, figure.names)
    parts.append(label(4, 10, cut(figure.y, WIDTH - RIGHT), "axis-name", whole=figure.y))
    if figure.square:
        parts.append(stroke(across(across.low), down(across.low), across(across.high), down(across.high), "diagonal"))
    if figure.line:
        parts.append(element("path", d=path(figure.line, across, down), class_="line s1"))
    parts += [_dot(dot, across, down, len(dots)) for dot in dots]
    return height, parts + _names(dots, across, down)


def _two_scales(figure: Dots, dots: Sequence[Dot], height: float) -> tuple[Scale, Scale]:
    wide, tall = [dot.x for dot in dots], [dot.y for dot in dots]
    both = [*wide, *tall] if figure.square else []
    bounds, end = figure.bounds, WIDTH - RIGHT
    about = 5 if figure.square else 4
    down = fitted(both or tall, height - BOTTOM, HEAD, bounds=bounds, about=about)
    if figure.names:
        return Scale(-0.5, len(figure.names) - 0.5, LEFT, end), down
    return fitted(both or wide, LEFT, end, bounds=bounds, about=5, logarithmic=figure.logarithmic), down


def _dot(dot: Dot, across: Scale, down: Scale, count: int) -> Markup:
    radius = 3 + 5 * math.sqrt(dot.weight) if count <= 60 else 1.8
    shade = "cloud" if count > 60 else "dot"
    colour = ("hollow" if dot.hollow else "s0") if dot.strong else "muted"
    title = element("title", f"{dot.name}: {number(dot.x)}, {number(dot.y)}") if dot.name else Markup("")
    return element("circle", title, cx=across(dot.x), cy=down(dot.y), r=radius, class_=f"{shade} {colour}")


def _names(dots: Sequence[Dot], across: Scale, down: Scale) -> list[Markup]:
    """Write names beside dots, moved down where they would lie on one another."""
    parts, taken = list[Markup](), list[tuple[float, float, float]]()  # left, right, height
    for dot in sorted((dot for dot in dots if dot.name), key=lambda dot: down(dot.y)):
        x, y = across(dot.x), down(dot.y) + 3.5
        text = cut(dot.name, (WIDTH - LEFT) / 2)
        width = width_of(text)
        left = x + 10 + width > WIDTH - RIGHT
        begin = x - 8 - width if left else x + 8
        while any(begin < right and start < begin + width and abs(y - at) < 11 for start, right, at in taken):
            y += 11
        taken.append((begin, begin + width, y))
        strong = "label" if dot.strong else "label weak"
        parts.append(label(begin + width if left else begin, y, text, strong, "end" if left else "start", dot.name))
    return parts


@_parts.register
def _(figure: Matrix) -> tuple[float, list[Markup]]:
    named = max(len(figure.rows), len(figure.columns)) <= NAMED
    left = 22 + (min(96.0, 8 + max(map(width_of, figure.rows), default=0)) if named else 0.0)
    top = 34.0 if named else 18.0
    size = min((WIDTH - left - 6) / max(1, len(figure.columns)), CELL if named else WIDTH)
    tall = min(size, LOW) if named else size
    wide, high = size * len(figure.columns), tall * len(figure.rows)
    parts = [label(left + wide / 2, 11, figure.across, "axis-name", "middle")]
    turned = f"translate(11 {top + high / 2:.1f}) rotate(-90)"
    parts.append(element("text", figure.down, transform=turned, class_="axis-name", text_anchor="middle"))
    for row, values in enumerate(figure.values):
        parts += _cells(figure, row, values, (left, top + row * tall), (size, tall), named)
    if named:
        for row, name in enumerate(figure.rows):
            parts.append(label(left - 6, top + (row + 0.5) * tall + 4, cut(name, left - 26), "tick", "end", name))
        for column, name in enumerate(figure.columns):
            middle = left + (column + 0.5) * size
            parts.append(label(middle, top - 5, cut(name, size - 3), "tick", "middle", name))
    frame = element("rect", x=left, y=top, width=wide, height=high, class_="frame")
    return top + high + 6, [*parts, frame]


def _cells(
    figure: Matrix,
    row: int,
    values: Sequence[float | None],
    place: tuple[float, float],
    size: tuple[float, float],
    named: bool,
) -> Iterable[Markup]:
    known = [abs(value) for value in values if value is not None and math.isfinite(value)]
    whole = sum(known) if figure.by_row else 1.0
    for column, value in enumerate(values):
        if value is None or not math.isfinite(value) or (not value and not named):
            continue
        share = min(abs(value) / whole, 1.0) if whole else 0.0
        x, y = place[0] + column * size[0], place[1]
        title = element("title", f"{figure.rows[row]}, {figure.columns[column]}: {number(value)}")
        yield element(
            "rect", title, x=x, y=y, width=size[0], height=size[1], class_="cold" if value < 0 else "heat",
            fill_opacity=f"{0.72 * share:.2f}",
        )  # fmt: skip
        if named and size[0] > 14:
            shown = number(value, 2)
            kind = "cell" if width_of(shown) < size[0] else "cell small"
            yield label(x + size[0] / 2, y + size[1] / 2 + 4, shown, kind, "middle")


@_parts.register
def _(figure: Forest) -> tuple[float, list[Markup]]:
    left = min(150.0, 14 + max((width_of(each.name) for each in figure.intervals), default=0))
    height = TOP + ROW * len(figure.intervals) + BOTTOM
    ends = [value for each in figure.intervals for value in (each.mean, each.low, each.high)]
    across = fitted(ends, left, WIDTH - RIGHT, bounds=(0.0, 0.0), about=4)
    base = height - BOTTOM
    parts = horizontal_axis(across, figure.x, height)
    parts += [stroke(across(value), TOP, across(value), base, "grid") for value in across.ticks()]
    parts.append(stroke(across(0), TOP, across(0), base, "null"))
    for row, each in enumerate(figure.intervals):
        y, told = TOP + (row + 0.5) * ROW, "told" if each.told else "untold"
        name = cut(each.name, left - 12)
        parts.append(label(left - 8, y + 4, name, "label" if each.told else "label weak", "end", each.name))
        if math.isfinite(each.low) and math.isfinite(each.high):
            parts.append(stroke(across(each.low), y, across(each.high), y, f"interval {told}"))
        if math.isfinite(each.mean):
            parts.append(element("circle", cx=across(each.mean), cy=y, r=3.5, class_=f"estimate {told}"))
    return height, parts


@_parts.register
def _(figure: Bars) -> tuple[float, list[Markup]]:
    left = min(150.0, 14 + max((width_of(name) for name, _ in figure.bars), default=0))
    known = [value for _, value in figure.bars if math.isfinite(value)]
    across = Scale(0, max([*known, 0.0]) or 1.0, left, WIDTH - 52)
    parts = []
    for row, (name, value) in enumerate(figure.bars):
        y = TOP + row * ROW
        shown = f"{number(100 * value, 2)} %" if figure.percent else number(value)
        parts += [
            label(left - 8, y + 14, cut(name, left - 12), "label", "end", name),
            element("rect", x=left, y=y + 4.0, width=max(across(value) - left, 0.5), height=ROW - 8.0, class_="bar s0"),
            label(across(value) + 5, y + 14, shown, "tick"),
        ]
    return TOP + ROW * len(figure.bars) + 4, parts


def sample(style: int) -> Markup:
    """Draw a piece of a line, for a legend."""
    dashes = f" d{style // STYLES % 4}" if style >= STYLES else ""
    line = element("path", d="M0 5L24 5", class_=f"line s{style % STYLES}{dashes}")
    return element("svg", line, viewBox="0 0 24 10", aria_hidden="true", class_="sample")
