"""SVG: draw charts. Colours are classes of the page's style, so that they follow its scheme."""

import math
from collections.abc import Iterable, Sequence
from functools import singledispatch
from itertools import groupby

from markupsafe import Markup, escape

from regkit.page.figures import Bars, Curve, Curves, Dot, Dots, Figure, Forest, Matrix, Points
from regkit.page.scales import Scale, fitted, labels, number
from regkit.page.text import visible
from regkit.page.words import sentence

WIDTH, HEIGHT = 360, 204  # of a chart, in units of its own: pixels of a narrow telephone
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 8, 36
FLAT = 22  # below a chart whose axis has its name beside the numbers
HEAD = 24  # above a chart whose vertical axis has a name
CELL, LOW = 56.0, 36.0  # the largest width and height of a cell
ROW = 20  # the height of a row of bars or intervals
LETTER = 5.9  # the width of one, at the size of the labels
STYLES = 8  # colours; with dashes, as many more
NAMED = 20  # rows and columns of a matrix that have names, and numbers in their cells


def draw(figure: Figure, key: str) -> Markup:
    """Draw a chart; `key` is a name that no other has on the page, for what reads it aloud."""
    height, parts = _parts(figure)
    said = element("title", figure.title, id=f"{key}-title") + element("desc", sentence(figure), id=f"{key}-desc")
    return element(
        "svg",
        said + Markup("").join(parts),
        viewBox=f"0 0 {WIDTH} {_short(height)}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


def element(name: str, content: str = "", **attributes: object) -> Markup:
    """Write an element; what is not markup is escaped. `class_` is `class`, and `_` inside a name is a hyphen."""
    given = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _plain(value))
        for key, value in attributes.items()
        if value is not None
    ]
    inside = content if isinstance(content, Markup) else escape(visible(content))
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(given), inside)


def _plain(value: object) -> str:
    return _short(value) if isinstance(value, float) else visible(str(value))


def _short(value: float) -> str:
    """Write a place to a tenth of a pixel."""
    return f"{value:z.1f}".removesuffix(".0")


def path(points: Points, across: Scale, down: Scale) -> str:
    """Write the path of a line; neighbours that fall on the same place are one."""
    places = [place for place, _ in groupby(f"{_short(across(x))} {_short(down(y))}" for x, y in points)]
    return f"M{'L'.join(places)}" if places else ""


def cut(text: str, width: float) -> str:
    """Cut a text to what fits into so many pixels."""
    most = max(2, int(width / LETTER))
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _text(x: float, y: float, text: str, class_: str = "label", anchor: str = "start", whole: str = "") -> Markup:
    """Write a label; `whole` is what it says in full where it was cut."""
    title = element("title", whole) if whole and whole != text else Markup("")
    return element("text", escape(visible(text)) + title, x=x, y=y, class_=class_, text_anchor=anchor)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def _vertical_axis(down: Scale) -> list[Markup]:
    values, right = down.ticks(), WIDTH - RIGHT
    parts = [_line(LEFT, down(value), right, down(value), "zero" if value == 0 else "grid") for value in values]
    texts = zip(values, labels(values), strict=True)
    return parts + [_text(LEFT - 6, down(value) + 3.5, text, "tick", "end") for value, text in texts]


def _horizontal_axis(
    across: Scale, name: str, height: float, names: Sequence[str] = (), bottom: float = BOTTOM
) -> list[Markup]:
    """Draw an axis with its name below the numbers, or in place of the last ones where there is no room."""
    values = [float(place) for place in range(len(names))] or across.ticks()
    texts = [cut(each, (across.end - across.start) / len(names) - 4) for each in names] or labels(values)
    base, room = height - bottom, across.end
    if bottom < BOTTOM:
        room -= (len(name) + 3) * LETTER
    parts = [_line(across(value), base, across(value), base + 4, "axis") for value in values]
    parts += [
        _text(across(value), base + 15, text, "tick", "middle", whole)
        for value, text, whole in zip(values, texts, names or texts, strict=True)
        if across(value) <= room
    ]
    title = _text(
        across.end,
        height - bottom + (15 if bottom < BOTTOM else 32),
        cut(name, across.end - across.start),
        "axis-name",
        "end",
        name,
    )
    return [_line(across.start, base, across.end, base, "axis"), *parts, title]


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
    parts = _vertical_axis(down) + _horizontal_axis(across, figure.x, HEIGHT, bottom=FLAT)
    for place, said in figure.marks:
        mark = _line(across(place), TOP, across(place), HEIGHT - FLAT, "mark")
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
    parts = _vertical_axis(down) + _horizontal_axis(across, figure.x, height, figure.names)
    parts.append(_text(4, 10, cut(figure.y, WIDTH - RIGHT), "axis-name", whole=figure.y))
    if figure.square:
        parts.append(_line(across(across.low), down(across.low), across(across.high), down(across.high), "diagonal"))
    if figure.line:
        parts.append(element("path", d=path(figure.line, across, down), class_="line s1"))
    parts += [_dot(dot, across, down, len(dots)) for dot in dots]
    return height, parts + _names(dots, across, down)


def _two_scales(figure: Dots, dots: Sequence[Dot], height: float) -> tuple[Scale, Scale]:
    wide, tall = [dot.x for dot in dots], [dot.y for dot in dots]
    both = [*wide, *tall] if figure.square else []
    bounds, end = figure.bounds, WIDTH - RIGHT
    down = fitted(both or tall, height - BOTTOM, HEAD, bounds=bounds)
    if figure.names:
        return Scale(-0.5, len(figure.names) - 0.5, LEFT, end), down
    about = 4 if figure.square else 5
    return fitted(both or wide, LEFT, end, bounds=bounds, about=about, logarithmic=figure.logarithmic), down


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
        width, left = len(text) * LETTER, x > WIDTH - RIGHT - len(text) * LETTER - 10
        begin = x - 8 - width if left else x + 8
        while any(begin < right and start < begin + width and abs(y - at) < 11 for start, right, at in taken):
            y += 11
        taken.append((begin, begin + width, y))
        strong = "label" if dot.strong else "label weak"
        parts.append(_text(begin + width if left else begin, y, text, strong, "end" if left else "start", dot.name))
    return parts


@_parts.register
def _(figure: Matrix) -> tuple[float, list[Markup]]:
    named = max(len(figure.rows), len(figure.columns)) <= NAMED
    left = 22 + (min(96.0, 8 + LETTER * max(map(len, figure.rows), default=0)) if named else 0.0)
    top = 34.0 if named else 18.0
    size = min((WIDTH - left - 6) / max(1, len(figure.columns)), CELL if named else WIDTH)
    tall = min(size, LOW) if named else size
    wide, high = size * len(figure.columns), tall * len(figure.rows)
    parts = [_text(left + wide / 2, 11, figure.across, "axis-name", "middle")]
    turned = f"translate(11 {top + high / 2:.1f}) rotate(-90)"
    parts.append(element("text", figure.down, transform=turned, class_="axis-name", text_anchor="middle"))
    for row, values in enumerate(figure.values):
        parts += _cells(figure, row, values, (left, top + row * tall), (size, tall), named)
    if named:
        for row, name in enumerate(figure.rows):
            parts.append(_text(left - 6, top + (row + 0.5) * tall + 4, cut(name, left - 26), "tick", "end", name))
        for column, name in enumerate(figure.columns):
            text = cut(name, size - 3)
            parts.append(_text(left + (column + 0.5) * size, top - 5, text, "tick", "middle", name))
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
            kind = "cell" if len(shown) * LETTER < size[0] else "cell small"
            yield _text(x + size[0] / 2, y + size[1] / 2 + 4, shown, kind, "middle")


@_parts.register
def _(figure: Forest) -> tuple[float, list[Markup]]:
    left = min(150.0, 14 + LETTER * max((len(each.name) for each in figure.intervals), default=0))
    height = TOP + ROW * len(figure.intervals) + BOTTOM
    ends = [value for each in figure.intervals for value in (each.mean, each.low, each.high)]
    across = fitted(ends, left, WIDTH - RIGHT, bounds=(0.0, 0.0), about=4)
    base = height - BOTTOM
    parts = _horizontal_axis(across, figure.x, height)
    parts += [_line(across(value), TOP, across(value), base, "grid") for value in across.ticks()]
    parts.append(_line(across(0), TOP, across(0), base, "null"))
    for row, each in enumerate(figure.intervals):
        y, told = TOP + (row + 0.5) * ROW, "told" if each.told else "untold"
        name = cut(each.name, left - 12)
        parts.append(_text(left - 8, y + 4, name, "label" if each.told else "label weak", "end", each.name))
        if math.isfinite(each.low) and math.isfinite(each.high):
            parts.append(_line(across(each.low), y, across(each.high), y, f"interval {told}"))
        if math.isfinite(each.mean):
            parts.append(element("circle", cx=across(each.mean), cy=y, r=3.5, class_=f"estimate {told}"))
    return height, parts


@_parts.register
def _(figure: Bars) -> tuple[float, list[Markup]]:
    left = min(150.0, 14 + LETTER * max((len(name) for name, _ in figure.bars), default=0))
    known = [value for _, value in figure.bars if math.isfinite(value)]
    across = Scale(0, max([*known, 0.0]) or 1.0, left, WIDTH - 52)
    parts = []
    for row, (name, value) in enumerate(figure.bars):
        y = TOP + row * ROW
        shown = f"{number(100 * value, 2)} %" if figure.percent else number(value)
        parts += [
            _text(left - 8, y + 14, cut(name, left - 12), "label", "end", name),
            element("rect", x=left, y=y + 4.0, width=max(across(value) - left, 0.5), height=ROW - 8.0, class_="bar s0"),
            _text(across(value) + 5, y + 14, shown, "tick"),
        ]
    return TOP + ROW * len(figure.bars) + 4, parts


def sample(style: int) -> Markup:
    """Draw a piece of a line, for a legend."""
    dashes = f" d{style // STYLES % 4}" if style >= STYLES else ""
    line = element("path", d="M0 5L24 5", class_=f"line s{style % STYLES}{dashes}")
    return element("svg", line, viewBox="0 0 24 10", aria_hidden="true", class_="sample")
