"""Errors: what went wrong, the nearest match and the choices, in one sentence to the user."""

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

LISTED = 50  # choices in a message
COMPARED = 1000  # choices to find the nearest among
LONG = 100  # characters of a value or a choice in a message
TABLE = 'a table is needed: {NAME = VALUE} in a file, {"NAME": VALUE} on the command line'


class RegkitError(Exception):
    """Report what the user can put right, without a traceback.

    The command line prints the message and exits with `status`. The `remedy` follows it: what was saved, and how to go on.
    """

    status = 2

    def __init__(self, message: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class ConfigError(RegkitError):
    """Report an invalid option, task or setting."""


class DataError(RegkitError):
    """Report a data file that cannot be read: file, line and field."""


class EncoderError(RegkitError):
    """Report an encoder folder that cannot be loaded: the file or the tensor."""


class PluginError(RegkitError):
    """Report a plugin that is unknown, contradicts another, or failed."""


class MisuseError(PluginError):
    """Report a plugin that breaks the contract: no run can use it, whatever its tasks and options."""


class RunError(RegkitError):
    """Report a run folder that is missing, in use or incomplete."""


class LostError(RunError):
    """Report that another process of the run has ended."""


class ApartError(RunError):
    """Report that the processes of a run no longer agree: it cannot go on from what they have saved since they did."""


class StoppedError(RegkitError):
    """Report that a signal stopped the run, which has been saved."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number
        self.status = 128 + number  # as a shell reports it


def nearest(word: str, choices: Iterable[str]) -> str:
    """End an error message with the closest choice, if one is close, and the list of all choices."""
    known = sorted(choices)
    plain = {choice.lower(): choice for choice in islice(known, COMPARED)}
    close = difflib.get_close_matches(word[:LONG].lower(), plain, n=1, cutoff=0.6)
    guess = f"Did you mean '{plain[close[0]]}'? " if close else ""
    return f"{guess}Available: {_listed(known)}."


def _listed(known: Sequence[str]) -> str:
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return f"{', '.join(short(each) for each in known[:LISTED]) or 'none'}{more}"


def short(text: object) -> str:
    """Cut a text of any length to what a message can show."""
    shown = str(text)
    return shown if len(shown) <= LONG else f"{shown[:LONG]}..."


def typed(*words: object) -> str:
    """Write the words of a command as a shell reads them: a path with a blank is in quotes."""
    plain = [f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words]
    return shlex.join(plain)


def explain(
    error: ValidationError,
    owner: str,
    choices: Iterable[str],
    option: str = "",
    called: Mapping[str, str] | None = None,
) -> str:
    """Turn pydantic's first complaint into one sentence about the `owner` of the options.

    `choices` are all its options; `option` is the one that was checked, if it was one alone. `called` has what
    the user calls an option, where that says at once where it was given: `--warmup`.
    """
    first = _telling(error)
    place = [option, *first["loc"]] if option else list(first["loc"])
    name = ".".join(str(part) for number, part in enumerate(place) if not number or not _is_type(part))
    if first["type"] == "extra_forbidden":
        return f"{owner} has no option '{name}'. {nearest(name, choices)}"
    if first["type"] == "missing" and len(place) > 1:
        return f"{owner}: {place[0]} is {short(repr(first['input']))}; a value is missing."
    if first["type"] == "missing":
        return f"{owner} needs '{name}'."
    if not name:
        return f"{owner}: {complaint(error)}."
    subject = (called or {}).get(name) or f"{owner}: {name}"
    return f"{subject} is {short(repr(first['input']))}; {complaint(error)}."


def complaint(error: ValidationError) -> str:
    """Word pydantic's first complaint as a part of a sentence: `input should be greater than 0`."""
    first = _telling(error)
    message = TABLE if first["type"] == "dict_type" else first["msg"].removeprefix("Value error, ")
    bound = next(iter(first.get("ctx", {}).values()), None)
    if first["type"].startswith(("greater_than", "less_than")) and isinstance(bound, float):
        message = f"{message.rpartition(' ')[0]} {bound:g}"  # pydantic writes 1e-30 out
    return (message[0].lower() + message[1:]).replace("tuple", "list").rstrip(".")  # as a user calls it


def _telling(error: ValidationError) -> ErrorDetails:
    """Find the complaint that helps most: that of the type which the value has.

    So of a list it is one about an item, or about its length, before that it should be a number.
    """
    found = error.errors(include_url=False)
    alike = [each for each in found if each["loc"][:1] == found[0]["loc"][:1]]
    inside = [each for each in alike if each["loc"] and isinstance(each["loc"][-1], int)]
    return next(iter(inside + [each for each in alike if not each["type"].endswith("_type")]), found[0])


def _is_type(part: int | str) -> bool:
    """Tell whether pydantic names a member of a union here, and not a place in the input."""
    return str(part).startswith(("function-", "constrained-", "tuple[", "list[", "union[")) or part in (
        "int",
        "float",
        "str",
    )
