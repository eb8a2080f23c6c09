"""Terminal: show a table section by section; a difference that cannot be told from nothing is grey.

The notes below it are lines of text, as any other, which whoever prints it prints.
"""

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from regkit.experiments.tables.formats.cells import COST_HEAD, Layout, Line, Section, costs, lay_out
from regkit.experiments.tables.table import Table

GREY = "bright_black"
NAME = 10  # the least width of the rows' names, which are folded where there is no more


def as_renderable(table: Table) -> RenderableType:
    """Lay a table out for a rich console of any width."""
    layout = lay_out(table)
    widths = _widths([layout.head, *(line.cells for each in layout.sections for line in each.lines)])
    grids = [*(_section(layout, each, widths) for each in layout.sections), *_costs(table)]
    return Group(*(part for grid in grids for part in (grid, Text())))


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*rows, strict=True)]


def _section(layout: Layout, section: Section, widths: Sequence[int]) -> Grid:
    grid = _grid(layout.head, widths, section.title)
    for line in section.lines:
        grid.add_row(*_texts(layout, line))
    return grid


def _grid(head: Sequence[str], widths: Sequence[int], title: str) -> Grid:
    """Make a grid whose columns are as wide in every section; names give way where the console is narrow."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    grid.title, grid.title_justify = Text(title, "bold"), "left"
    grid.add_column(head[0], overflow="fold", min_width=min(NAME, widths[0]), max_width=widths[0])
    for name, width in zip(head[1:], widths[1:], strict=True):
        grid.add_column(name, no_wrap=True, min_width=width)
    return grid


def _texts(layout: Layout, line: Line) -> list[Text]:
    """Style a line: what compares it is grey if nothing is told."""
    styles = [GREY if name in ("difference", "p", "Holm") and not line.told else "" for name in layout.head]
    return [Text(cell, style=style) for cell, style in zip(line.cells, styles, strict=True)]


def _costs(table: Table) -> list[Grid]:
    found = costs(table)
    if not found:
        return []
    grid = _grid(COST_HEAD, _widths([COST_HEAD, *found]), "cost of a run")
    for row in found:
        grid.add_row(*map(Text, row))
    return [grid]
