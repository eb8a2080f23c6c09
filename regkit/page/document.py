"""Document: a page as sections of paragraphs, tables and charts, before anything is HTML."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from regkit.page.charts.figures import Curves, Figure


@dataclass(frozen=True)
class Cell:
    """A cell of a table with a second line, or one that stands out or back."""

    text: str
    below: str = ""
    strong: bool = False
    weak: bool = False


@dataclass(frozen=True)
class Grid:
    """A table. The first column names the rows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    texts: frozenset[int] = frozenset({0})  # columns of words; the others are numbers
    folded: bool = False  # shown when asked for


@dataclass(frozen=True)
class Note:
    """A paragraph, or a list where there are several lines."""

    lines: Sequence[str]
    warning: bool = False


@dataclass(frozen=True)
class Panel:
    """Charts that belong together: they share colours, and what is said of them."""

    caption: str
    figures: Sequence[Figure]

    @property
    def legend(self) -> list[tuple[str, int]]:
        """The name and the style of each line, where there is more than one in a chart."""
        charts = [figure.curves for figure in self.figures if isinstance(figure, Curves)]
        if all(len(curves) < 2 for curves in charts):
            return []
        return list({curve.name: curve.style for curves in charts for curve in curves if not curve.muted}.items())

    @property
    def muted(self) -> int:
        """The number of lines that are grey because there are too many."""
        return len({c.name for figure in self.figures if isinstance(figure, Curves) for c in figure.curves if c.muted})


Block = Note | Grid | Panel


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; `level` 3 is a part of the section before."""

    title: str
    blocks: Sequence[Block]
    level: int = 2


@dataclass(frozen=True)
class Document:
    """A page."""

    title: str
    lead: Sequence[str]  # lines below the title
    sections: Sequence[Section] = field(default_factory=list)

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """List every chart with the title of its section."""
        for section in self.sections:
            for block in section.blocks:
                if isinstance(block, Panel):
                    yield from ((section.title, figure) for figure in block.figures)
