"""Markdown: write a table; a difference that can be told from nothing is bold."""

import re
from collections.abc import Iterator, Sequence

from regkit.base.wording import printable
from regkit.experiments.tables.formats.cells import COST_HEAD, Line, costs, lay_out, remarks
from regkit.experiments.tables.table import Table

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


def as_markdown(table: Table) -> str:
    """Write a table in GitHub's Markdown: a heading, a table for each score, one of costs, and the notes."""
    return "\n".join([f"# {escape(table.name)}", "", *_body(table)])


def _body(table: Table) -> Iterator[str]:
    layout = lay_out(table)
    for section in layout.sections:
        yield from _grid(escape(section.title), layout.head, [_cells(line) for line in section.lines])
    if found := costs(table):
        yield from _grid("cost of a run", COST_HEAD, [[escape(cell) for cell in row] for row in found])
    yield from (f"- {escape(each)}" for each in remarks(table))
    yield ""


def _cells(line: Line) -> list[str]:
    return [
        f"**{escape(cell)}**" if place == 2 and cell and line.told else escape(cell)
        for place, cell in enumerate(line.cells)
    ]


def _grid(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from (f"**{title}**", "", _row(head), _row(["---"] * len(head)))
    yield from map(_row, rows)
    yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Escape what Markdown would read as markup, and control characters."""
    return SPECIAL.sub(r"\\\1", printable(text))
