"""Terminal: draw what a command of regkit leaves on a terminal, by rich's own export to SVG."""

import contextlib
import io
import sys
import tempfile
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from rich.text import Text

from regkit.cli import app, train
from regkit.cli.terminal import Terminal

WIDTH = 104  # columns


class Recording(Terminal):
    """A terminal that remembers what was printed, but for the line that shows progress: at the end it is gone."""

    recorded: "Recording"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, record=True, file=io.StringIO(), width=WIDTH, force_terminal=False)
        Recording.recorded = self

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, but for progress."""
        if not str(objects[0] if objects else "").startswith("step "):
            super().print(*objects, **options)


def draw(arguments: Sequence[str]) -> str:
    """Train in a new folder as `regkit train` with these arguments does, and draw the terminal at the end."""
    command = ["regkit", "train", *arguments]
    arranged = patch.object(sys, "argv", command), patch.object(train, "Terminal", Recording)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), arranged[0], arranged[1]:
        app.main()
        text = Recording.recorded.export_text(styles=True)
    screen = Terminal(record=True, file=io.StringIO(), width=WIDTH)
    screen.print(Text("$ " + " ".join(command), "bold"), Text.from_ansi(text.rstrip()), sep="\n", highlight=False)
    return screen.export_svg(title="regkit train", unique_id="regkit")
