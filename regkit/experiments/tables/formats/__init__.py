"""Formats: a table for a terminal, and as Markdown, LaTeX, CSV and JSON."""

from collections.abc import Callable, Mapping
from pathlib import Path

from regkit.base.files import write
from regkit.experiments.tables.formats.cells import remarks
from regkit.experiments.tables.formats.latex import as_latex
from regkit.experiments.tables.formats.markdown import as_markdown
from regkit.experiments.tables.formats.plain import as_csv, as_json
from regkit.experiments.tables.formats.terminal import as_renderable
from regkit.experiments.tables.table import Table

__all__ = ["ENDINGS", "FORMATS", "as_csv", "as_json", "as_latex", "as_markdown", "as_renderable", "remarks", "save"]

FORMATS: Mapping[str, Callable[[Table], str]] = {  # of files, by name
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
    "json": as_json,
}
ENDINGS = {"markdown": ".md", "latex": ".tex", "csv": ".csv", "json": ".json"}


def save(table: Table, folder: Path) -> None:
    """Write a table into a folder in every format: `table.md` and so on.

    Raises OSError where the disk is full.
    """
    for name, render in FORMATS.items():
        write(folder / f"table{ENDINGS[name]}", render(table))
