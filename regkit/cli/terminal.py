"""Terminal: print what commands say. A reader that stops (`regkit train | head`) ends that alone."""

import os
import sys
from collections.abc import Sequence

from rich.console import Console


class Terminal(Console):
    """Print until nobody reads any more, and then nothing: a run is worth more than its lines."""

    def on_broken_pipe(self) -> None:
        """Send what is still printed to nowhere. Rich itself would end the program here, with status 1."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # what is still buffered is flushed at exit
        os.close(nowhere)


def print_lines(console: Console, lines: Sequence[str]) -> None:
    """Print the lines as they are."""
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
