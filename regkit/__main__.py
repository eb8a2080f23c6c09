"""`regkit` and `python -m regkit`: the command line, imported where an interruption ends the program without a traceback."""

import signal


def main() -> None:
    """Import the command line, which takes half a second, and run it."""
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:  # and not ignored, as in the background of a script
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from regkit.cli.app import main as run

    signal.signal(signal.SIGINT, interrupted)
    run()


if __name__ == "__main__":
    main()
