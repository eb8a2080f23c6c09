"""Formats: a table for a terminal, and as Markdown, LaTeX, CSV and JSON."""

from collections.abc import Callable, Mapping

from regkit.experiments.formats.latex import as_latex
from regkit.experiments.formats.markdown import as_markdown
from regkit.experiments.formats.plain import as_csv, as_json
from regkit.experiments.formats.terminal import as_renderable
from regkit.experiments.table import Table

__all__ = ["BY_ENDING", "as_csv", "as_json", "as_latex", "as_markdown", "as_renderable"]

BY_ENDING: Mapping[str, Callable[[Table], str]] = {  # of the files that a study's tables are written to
    ".md": as_markdown,
    ".tex": as_latex,
    ".csv": as_csv,
    ".json": as_json,
}
