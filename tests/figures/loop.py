"""Loop: draw the training loop with its hooks, from the pseudocode of the contract."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from regkit.hooks import spec
from regkit.hooks.spec import DECIDE, Hooks

WIDTH, ROW, INDENT, PAD, GAP = 960, 25, 15, 12, 5
MEANING = 356  # where the column with what a hook does begins
CHARACTER = 7.3  # width of one of the monospaced font, on average of the usual ones
STYLE = """
text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: #3b4048; }
.code { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.name { font-weight: 600; fill: #fff; }
.page { fill: #fff; } .block { fill: #5b6b8c; fill-opacity: .06; stroke: #5b6b8c; stroke-opacity: .25; }
.collect { fill: #2f6f4f; } .decide { fill: #3457a6; } .notify { fill: #7a4a8c; }
@media (prefers-color-scheme: dark) {
  text { fill: #c9d1d9; } .page { fill: #12161c; } .block { fill: #9fb3d9; stroke: #9fb3d9; } .name { fill: #fff; }
}
"""


@dataclass(frozen=True)
class Line:
    """A line of the pseudocode: how many blocks it stands in, its text, and the hook that it calls, if any."""

    depth: int
    text: str
    hook: str | None

    @property
    def opens(self) -> bool:
        """Whether it begins a block."""
        return self.text.endswith(":")


def hooks() -> list[str]:
    """List the names of the hooks, in the loop's order."""
    return [name for name in vars(Hooks) if not name.startswith("_")]


def kind(hook: str) -> str:
    """Say whether a hook collects, decides or notifies."""
    if hook in DECIDE:
        return "decide"
    return "notify" if inspect.signature(getattr(Hooks, hook)).return_annotation in (None, "None") else "collect"


def meaning(hook: str) -> str:
    """Return the first sentence of a hook's docstring, as plain text."""
    text = " ".join((inspect.getdoc(getattr(Hooks, hook)) or "").split())
    return re.split(r"(?<=[.:;]) ", text)[0].rstrip(".:;").replace("`", "")


def lines() -> Iterator[Line]:
    """Read the pseudocode of the contract. A line that calls two hooks is a line for each of them."""
    text = inspect.getdoc(spec) or ""
    block = re.search(r"\n\n((?:    .*\n)+)", text)
    assert block is not None
    open_blocks: list[int] = []  # their indents
    for raw in block[1].splitlines():
        code, _, comment = raw.partition("  #")
        if not code.strip():
            continue
        indent = len(code) - len(code.lstrip())
        while open_blocks and indent <= open_blocks[-1]:
            open_blocks.pop()
        depth = len(open_blocks)
        called = [name for name in re.findall(r"(\w+)\(", code + comment) if name in hooks()]
        yield from (Line(depth, name, name) for name in called)
        if code.rstrip().endswith(":"):
            open_blocks.append(indent)
        if code.rstrip().endswith(":") or not called:
            yield Line(depth, code.strip(), None)


def draw() -> str:
    """Draw the loop as an SVG that follows the reader's light or dark scheme."""
    rows = list(lines())
    blocks = [(number, end_of(rows, number)) for number, row in enumerate(rows) if row.opens]
    tops = [PAD + ROW * n + GAP * sum(end <= n for _, end in blocks) for n in range(len(rows) + 1)]
    height = tops[-1] + ROW + PAD
    parts = [f'<rect class="page" width="{WIDTH}" height="{height}" rx="10"/>']
    for number, end in blocks:
        around = sum(first <= number and last == end for first, last in blocks)  # those that end here, itself included
        parts.append(block(rows[number].depth, tops[number], tops[end] - GAP * around))
    parts += [part for row, top in zip(rows, tops, strict=False) for part in words(row, top + ROW / 2)]
    parts += legend(tops[-1] + ROW / 2 + 4)
    title = "A run as nested blocks, from top to bottom, with the hooks of each: " + ", ".join(hooks())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def end_of(rows: list[Line], number: int) -> int:
    """Find the first row after a block, for the row that opens it."""
    after = (later for later in range(number + 1, len(rows)) if rows[later].depth <= rows[number].depth)
    return next(after, len(rows))


def block(depth: int, top: float, bottom: float) -> str:
    """Draw the box of a block."""
    x = PAD + INDENT * depth
    return f'<rect class="block" x="{x}" y="{top}" width="{WIDTH - 2 * x}" height="{bottom - top}" rx="6"/>'


def words(row: Line, y: float) -> Iterator[str]:
    """Write a line: what it says, or the hook in the colour of its kind and what it is for."""
    x = PAD + INDENT * row.depth + 10
    if row.hook is None:
        yield f'<text class="code" x="{x}" y="{y + 4}">{escape(row.text)}</text>'
        return
    yield from pill(row.hook, kind(row.hook), x, y)
    yield f'<text x="{MEANING}" y="{y + 4}">{escape(meaning(row.hook))}</text>'


def pill(text: str, colour: str, x: float, y: float) -> Iterator[str]:
    """Draw a name on a coloured ground."""
    width = len(text) * CHARACTER + 16
    yield f'<rect class="{colour}" x="{x}" y="{y - 9}" width="{width:.0f}" height="18" rx="9"/>'
    yield f'<text class="code name" x="{x + 8}" y="{y + 4}">{text}</text>'


def legend(y: float) -> Iterator[str]:
    """Say what the colours mean."""
    for x, colour, text in (
        (22, "collect", "every plugin may answer"),
        (282, "decide", "one plugin answers, or else the default"),
        (620, "notify", "every plugin is told"),
    ):
        yield from pill(colour, colour, x, y)
        yield f'<text x="{x + 78}" y="{y + 4}">{text}</text>'
