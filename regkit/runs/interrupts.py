"""Interrupts: note Ctrl-C, SIGTERM and SIGHUP until the step is done; a second Ctrl-C stops at once."""

import signal
import threading
from types import FrameType
from typing import Any

from regkit.distributed.processes import Processes

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # SIGHUP comes when a terminal is closed; Windows has none
SIGNALS = [signal.Signals[name] for name in NAMES if name in signal.Signals.__members__]


class Interrupts:
    """Notes the first signal in `asked` inside a `with` block; the recorder looks there between steps.

    Blocks may be nested: a worker notes signals between its runs, too.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self.depth = 0
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        self.depth += 1
        here = threading.current_thread() is threading.main_thread()  # Python lets no other thread set handlers
        if here and self.depth == 1:
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and a shell's background jobs ask
                    self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self.depth -= 1
        if self.depth:
            return
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before.clear()

    def agreed(self, processes: Processes) -> signal.Signals | None:
        """Agree on what any of the processes was asked, and stop after the same step. All must call it."""
        asked = processes.largest(self.asked or 0)[0]
        return signal.Signals(asked) if asked else None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number)
        if signal.SIGINT in self.before:  # a second SIGTERM says nothing new: torchrun sends several
            signal.signal(signal.SIGINT, self.before.pop(signal.SIGINT))
