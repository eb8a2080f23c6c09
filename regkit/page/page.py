"""Page: write a document as one HTML file that needs nothing else, and asks the network for nothing."""

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from itertools import count
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from regkit.base.files import read_begin
from regkit.page import words
from regkit.page.charts.figures import Figure
from regkit.page.charts.svg import draw, sample
from regkit.page.document import Cell, Document, Grid, Note, Panel
from regkit.page.text import visible

MARK = '<meta name="generator" content="regkit report'  # by which a page of ours is known
BEGIN = 4096  # bytes in which it stands


def html(document: Document) -> str:
    """Write a document as HTML."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    keys = (f"c{number}" for number in count(1))
    page = _environment().get_template("page.html")
    return str(
        page.render(
            document=document,
            style=Markup(style),
            digest=digest,
            version=version("regkit"),
            draw=lambda figure: _drawn(figure, keys),
            sample=sample,
            tables=words.tables,
            anchors=_anchors(document),
            kind=_kind,
            cell=_cell,
        )
    )


def is_ours(path: Path) -> bool:
    """Whether a file is a page that an earlier report wrote, and a new one may replace."""
    return MARK in read_begin(path, BEGIN)


def _drawn(figure: Figure, keys: Iterator[str]) -> Markup:
    return draw(figure, next(keys))


def _kind(block: Note | Grid | Panel) -> str:
    return type(block).__name__.lower()


def _cell(value: str | Cell) -> Cell:
    return value if isinstance(value, Cell) else Cell(value)


def _anchors(document: Document) -> list[str]:
    return [f"part-{number}" for number, _ in enumerate(document.sections, 1)]


def _finalize(value: object) -> object:
    """Make everything that a template writes visible; markup is of our own."""
    return value if isinstance(value, Markup) else visible(str(value))


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("regkit.page"),
        autoescape=True,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


@cache
def _style() -> str:
    """Read the style sheet, without its comments and line ends.

    A browser compares its digest to the last byte.
    """
    environment = _environment()
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, "page.css")
    return " ".join(line.strip() for line in source.splitlines() if line.strip() and not line.strip().startswith("/*"))
