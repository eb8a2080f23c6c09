"""Signals: end a command by Ctrl-C, SIGTERM or SIGHUP so that it takes away what it has begun to write.

Training does not end there: it notes a signal, and stops after the step (`regkit.runs.interrupts`).
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDS: dict[str, Any] = {  # signals that end a command, each with the handler in whose place that is done
    "SIGINT": signal.default_int_handler,
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,  # a terminal was closed; Windows has none
}


@contextmanager
def heeded() -> Iterator[list[signal.Signals]]:
    """Raise KeyboardInterrupt inside the block for each of these signals, and list those that came.

    A library may turn it into an error of its own, so the list is what tells. A signal that is ignored, as nohup asks, or
    that has another handler, is left alone.
    """
    came: list[signal.Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(signal.Signals(number))
        raise KeyboardInterrupt

    before = {
        number: handler
        for name, handler in ENDS.items()
        if (number := signal.Signals.__members__.get(name)) and signal.getsignal(number) is handler
    }
    for number in before:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
