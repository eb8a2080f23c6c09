"""Terminal: print what commands say.

A reader that stops (`regkit train | head`) or a closed window ends that alone.
"""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, redirect_stdout
from typing import IO, Any

from rich.console import Console

from regkit.base.wording import printable

WIDTH = 80  # columns, where none are known


class Terminal(Console):
    """Print until nobody reads any more, and then nothing: a run is worth more than its lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.width < 1:  # COLUMNS=0, by which some programs say that they know no width: rich would print nothing
            self.width = WIDTH

    def on_broken_pipe(self) -> None:
        """Send what is still printed to nowhere. Rich itself would end the program here, with status 1."""
        self.quiet = True
        silence(sys.stdout)

    def __exit__(self, *exception: object) -> None:
        """Write what was printed inside. Of what can go wrong, rich knows the broken pipe only."""
        try:
            super().__exit__(*exception)
        except OSError as error:
            if error.errno != errno.EIO:  # as of a terminal that was closed
                raise
            self.on_broken_pipe()
        except ValueError:
            if not self.file.closed:  # by the code of a plugin
                raise
            self.quiet = True


def aside() -> AbstractContextManager[object]:
    """Send what the code of plugins prints to standard error, where standard output is for answers alone."""
    return redirect_stdout(sys.stderr)


def silence(stream: IO[str]) -> None:
    """Discard what is still written to a stream, and what it has buffered, which is flushed at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def print_lines(console: Console, lines: Sequence[str]) -> None:
    """Print each as one line."""
    for line in lines:
        print_line(console, line)


def print_line(console: Console, line: str) -> None:
    """Print one line, whatever a file put into it: what commands a terminal is shown and not done."""
    console.print(printable(line), soft_wrap=True, highlight=False, markup=False)
