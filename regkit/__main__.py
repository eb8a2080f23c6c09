"""`regkit` and `python -m regkit`: the command line, imported where an interruption ends the program without a traceback."""

import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

INTERRUPTED = 130  # as a shell reports a program that Ctrl-C has ended


def main() -> None:
    """Import the command line, which takes half a second, and run it."""
    interrupted = signal.getsignal(signal.SIGINT)
    asked = interrupted is signal.default_int_handler  # and not ignored, as in the background of a script
    if asked:
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # called last, when Python alone is taken down
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from regkit.cli.app import main as run

    signal.signal(signal.SIGINT, interrupted)
    try:
        run()
    except KeyboardInterrupt:  # another one, while what the first one means was being said
        sys.exit(INTERRUPTED)
    finally:
        if asked:  # all is said; what others do at the end would say where it was
            with suppress(AttributeError, OSError, ValueError):  # there is none, nobody reads it, it is closed
                sys.stdout.flush()
            signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: object) -> NoReturn:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
