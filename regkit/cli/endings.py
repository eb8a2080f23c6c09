"""Endings: turn an error into one sentence on standard error and an exit status."""

import os
import re
import sys
from contextlib import suppress
from typing import Any, NoReturn

import typer

from regkit.base.errors import LostError, RegkitError, nearest
from regkit.base.wording import printable
from regkit.cli.options import OFF, SWITCHES, flag
from regkit.cli.terminal import silence
from regkit.runs.elsewhere import no_option
from regkit.runs.settings import options

LONG = 2000  # characters of a message: what a file or a library says may be of any length
STDERR = 2  # the system's number of standard error
USAGE: Any = typer.BadParameter.__base__  # typer's own UsageError, or click's: which one depends on typer's version


def end_by(error: Exception) -> NoReturn:
    """End the program by an error that the user can mend: exit status 2. Any other is raised again."""
    if isinstance(error, RegkitError):
        stop(str(error), error.status, isinstance(error, LostError), error.remedy)
    if isinstance(error, USAGE):
        stop(_usage(error), 2)  # without a message, it has printed the help
    if isinstance(error, OSError):
        stop(f"{error.filename or 'writing'}: {error.strerror or error}.", 2)
    if isinstance(error, MemoryError):
        stop("there is not enough memory for this.", 2)
    raise error


def _usage(error: Any) -> str:
    """Say what is wrong with the words of a command: an unknown option, a missing value."""
    name = getattr(error, "option_name", None)
    if name and type(error).__name__ == "NoSuchOption" and error.ctx:
        known = {
            word for each in error.ctx.command.get_params(error.ctx) for word in (*each.opts, *each.secondary_opts)
        }
        return no_option(name, (word for word in known if word.startswith("--")))
    said = error.format_message().replace("Value error, ", "")  # pydantic's, by way of typer
    if name and said.endswith("does not take a value."):
        return f"{name} is a switch, and has no value; leave that out{_turned_off(name)}"
    if wrong := re.match("No such command '(.*?)'", said):
        return f"there is no command '{wrong[1]}'. {nearest(wrong[1], error.ctx.command.list_commands(error.ctx))}"
    said = " ".join(said.split())  # typer lists choices one a line
    return said[:1].lower() + said[1:]


def _turned_off(name: str) -> str:
    """Say how the switch of a setting is turned off; other switches are off if they are left out."""
    settings = {flag(each.name) for each in options().values() if each.hint in SWITCHES}
    return f", or give {flag(OFF + name.removeprefix('--'))}" if name in settings else ""


def stop(message: str, status: int, lost: bool = False, remedy: str = "") -> NoReturn:
    """Print one line and exit, whatever a file put into the message. Of several processes, one prints."""
    if not message or not _speaks(message, lost):
        sys.exit(status)
    message = f"{message} {remedy}".strip()
    if len(message) > LONG:
        message = f"{message[: LONG // 2]} ... {message[-LONG // 2 :]}"
    line = f"regkit: {_ended(printable(message.strip()))}"
    try:
        print(line, file=sys.stderr)
    except OSError:  # nobody reads it, or the terminal was closed
        silence(sys.stderr)
    except ValueError:  # closed by the code of a plugin, which leaves the system's stream open
        with suppress(OSError):
            os.write(STDERR, f"{line}\n".encode(errors="backslashreplace"))
    sys.exit(status)


def _ended(line: str) -> str:
    """End a sentence with a period, but not a command: that is there to be pasted."""
    command = line.rpartition(": ")[2].startswith("regkit ")
    return line if command or line.endswith("?") else f"{line.rstrip('.')}."


def _speaks(message: str, lost: bool) -> bool:
    if "RANK" not in os.environ:  # torchrun did not start it
        return True
    from regkit.distributed.launch import speaks

    return speaks(message, waits=lost)
