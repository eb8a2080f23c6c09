"""LaTeX: write a table for a paper, with booktabs.

A difference that cannot be told from nothing is grey.
"""

import re
from collections.abc import Iterator, Sequence

from regkit.base.wording import printable
from regkit.experiments.tables.formats.cells import COST_HEAD, NOTHING, Line, costs, lay_out, remarks
from regkit.experiments.tables.table import Table

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # which after the end of a row would begin its height
    "]": "{]}",
    "*": "{*}",  # which there would forbid a page break
    "-": "{-}",  # two of which would be a dash
    "±": r"$\pm$",
}
PLACES = re.compile("|".join(map(re.escape, SPECIAL)))


def as_latex(table: Table) -> str:
    """Write a `table` environment; it needs the packages booktabs and xcolor, and fontenc's T1."""
    layout = lay_out(table)
    return "\n".join(
        [
            "% \\usepackage[T1]{fontenc} \\usepackage{booktabs} \\usepackage{xcolor}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(table.name)}}}",
            *_grid(layout.head, [(each.title, list(map(_cells, each.lines))) for each in layout.sections]),
            *_costs(table),
            *_remarks(table),
            r"\end{table}",
            "",
        ]
    )


def _grid(head: Sequence[str], sections: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> Iterator[str]:
    yield rf"\begin{{tabular}}{{{'l' * len(head)}}}"
    yield r"\toprule"
    yield _row([r"$p$" if name == "p" else r"$n$" if name == "n" else escape(name) for name in head])
    for title, rows in sections:
        yield r"\midrule"
        yield rf"\multicolumn{{{len(head)}}}{{l}}{{\textit{{{escape(title)}}}}} \\"
        yield from map(_row, rows)
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _cells(line: Line) -> list[str]:
    """Set numbers as mathematics, and grey what compares rows if nothing is told."""
    name, score, *others = line.cells
    shown = [_mathematics(cell) for cell in (score, *others)]
    if not line.told:
        shown[1:3] = [rf"\textcolor{{gray}}{{{cell}}}" for cell in shown[1:3]]
    return [escape(name), *shown]


def _mathematics(cell: str) -> str:
    """Set a number, or several in one cell."""
    if not cell or cell == NOTHING:
        return "--" if cell else ""
    text = cell.replace(" ± ", r" \pm ").replace("x", r"\times").replace(" [", r"\ [").replace("inf", r"\infty")
    return f"${text}$"


def _costs(table: Table) -> Iterator[str]:
    if found := costs(table):
        yield r"\par\medskip"
        yield from _grid(COST_HEAD, [("cost of a run", [[escape(cell) for cell in row] for row in found])])


def _remarks(table: Table) -> Iterator[str]:
    """Write the notes below, as wide as the text."""
    lines = [escape(each) for each in remarks(table)]
    if lines:
        yield r"\par\medskip\begin{minipage}{\linewidth}\footnotesize\raggedright"
        yield "\\par\n".join(lines)
        yield r"\end{minipage}"


def escape(text: str) -> str:
    """Escape what LaTeX would read as a command, and control characters."""
    return PLACES.sub(lambda found: SPECIAL[found[0]], printable(text))
