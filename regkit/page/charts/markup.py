"""Markup: write the elements, lines and axes that charts are made of, with everybody's words escaped."""

from collections.abc import Sequence
from itertools import groupby
from unicodedata import east_asian_width

from markupsafe import Markup, escape

from regkit.page.charts.figures import Points
from regkit.page.charts.scales import Scale, labels
from regkit.page.text import visible

WIDTH = 360  # of a chart, in units of its own: pixels of a narrow telephone
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 8, 36
LETTER = 5.9  # the width of one, at the size of the labels


def element(name: str, content: str = "", **attributes: object) -> Markup:
    """Write an element; what is not markup is escaped.

    `class_` is `class`, and `_` inside a name is a hyphen.
    """
    given = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _plain(value))
        for key, value in attributes.items()
        if value is not None
    ]
    inside = content if isinstance(content, Markup) else escape(visible(content))
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(given), inside)


def _plain(value: object) -> str:
    return short(value) if isinstance(value, float) else visible(str(value))


def short(value: float) -> str:
    """Write a place to a tenth of a pixel."""
    return f"{value:z.1f}".removesuffix(".0")


def path(points: Points, across: Scale, down: Scale) -> str:
    """Write the path of a line; neighbours that fall on the same place are one."""
    places = [place for place, _ in groupby(f"{short(across(x))} {short(down(y))}" for x, y in points)]
    return f"M{'L'.join(places)}" if places else ""


def width_of(text: str) -> float:
    """Estimate the width of a label: signs of East Asia, and emoji, take the room of two."""
    return LETTER * sum(2 if east_asian_width(sign) in "WF" else 1 for sign in visible(text))


def cut(text: str, width: float) -> str:
    """Cut a text to what fits into so many pixels, but not to less than a sign."""
    if width_of(text) <= width:
        return text
    shorter = text[: max(1, int(width / LETTER) - 1)]
    while len(shorter) > 1 and width_of(shorter) + LETTER > width:
        shorter = shorter[:-1]
    return f"{shorter}\N{HORIZONTAL ELLIPSIS}"


def label(x: float, y: float, text: str, class_: str = "label", anchor: str = "start", whole: str = "") -> Markup:
    """Write a label; `whole` is what it says in full where it was cut."""
    title = element("title", whole) if whole and whole != text else Markup("")
    return element("text", escape(visible(text)) + title, x=x, y=y, class_=class_, text_anchor=anchor)


def stroke(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Draw a straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def vertical_axis(down: Scale) -> list[Markup]:
    """Draw the numbers of an axis, and a line across the chart for each."""
    values, right = down.ticks(), WIDTH - RIGHT
    parts = [stroke(LEFT, down(value), right, down(value), "zero" if value == 0 else "grid") for value in values]
    texts = zip(values, labels(values), strict=True)
    return parts + [label(LEFT - 6, down(value) + 3.5, text, "tick", "end") for value, text in texts]


def horizontal_axis(
    across: Scale, name: str, height: float, names: Sequence[str] = (), bottom: float = BOTTOM
) -> list[Markup]:
    """Draw an axis with its name below the numbers, or in place of the last ones where there is no room."""
    values = [float(place) for place in range(len(names))] or across.ticks()
    texts = [cut(each, (across.end - across.start) / len(names) - 4) for each in names] or labels(values)
    base, room = height - bottom, across.end
    if bottom < BOTTOM:
        room -= (len(name) + 3) * LETTER
    parts = [stroke(across(value), base, across(value), base + 4, "axis") for value in values]
    parts += [
        label(across(value), base + 15, text, "tick", "middle", whole)
        for value, text, whole in zip(values, texts, names or texts, strict=True)
        if across(value) <= room
    ]
    below, shown = base + (15 if bottom < BOTTOM else 32), cut(name, across.end - across.start)
    title = label(across.end, below, shown, "axis-name", "end", name)
    return [stroke(across.start, base, across.end, base, "axis"), *parts, title]
