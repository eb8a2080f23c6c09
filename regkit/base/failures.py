"""Failures: tell what another library's exception means: out of memory, or a process has ended."""

import re
import sys
import sysconfig
import traceback
from itertools import pairwise
from pathlib import Path

MOST = 300  # characters of a message of several lines; its first is shown whole
NOISE = re.compile(r"[\W_]*|For (further|more) .*|Stack trace.*", re.IGNORECASE)  # lines that say nothing


def last_line(error: BaseException) -> str:
    """Sum up an exception: its type, what it says, and the line of code that its author can mend."""
    if isinstance(error, SyntaxError) and error.filename:
        said = traceback.format_exception_only(error)[-1].strip()
        return f"{said} ({error.filename}, line {error.lineno})"
    kind, frames = type(error), traceback.extract_tb(error.__traceback__)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    said = ": ".join(filter(None, [name, in_one_line(error)]))
    own = [frame for frame in frames if not _is_library(frame.filename)] or frames
    return f"{said} ({own[-1].filename}, line {own[-1].lineno})" if own else said


def _is_library(file: str) -> bool:
    """Tell whether code is Python's, torch's or regkit's own, which a mistake only passes through."""
    if file.startswith(("<frozen", "<string>")):  # an import, and methods that a dataclass has made
        return True
    torch = getattr(sys.modules.get("torch"), "__file__", None)
    path, folders = Path(file), [Path(__file__).parents[1], *([Path(torch).parent] if torch else [])]
    installed = {"site-packages", "dist-packages"} & set(path.parts)  # some of these lie within the standard library
    return any(map(path.is_relative_to, folders)) or (
        not installed and path.is_relative_to(sysconfig.get_path("stdlib"))
    )


def in_one_line(error: BaseException) -> str:
    """Write what an exception says in one line.

    Of several lines, those that tell stay, as far as there is room. The first line alone may only count what is wrong, as
    pydantic's does, and the last may only point, as those of YAML do.
    """
    try:
        lines = [line.expandtabs() for line in str(error).strip().splitlines()]
    except Exception:  # of a stranger's class, which cannot even say what it is
        return ""
    pointed = {place - 1 for place, line in enumerate(lines) if line.strip() and not line.strip(" ^~")}  # code
    told = [line for place, line in enumerate(lines) if place not in pointed and not NOISE.fullmatch(line.strip())]
    said = told[0].strip() if told else ""
    for before, line in pairwise(told):
        joint = " " if said.endswith((":", ",", ";")) else ": " if _indent(line) > _indent(before) else "; "
        if len(said) + len(line) > MOST:
            break
        said += joint + line.strip()
    return said.rstrip(":,; ")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def reason(error: BaseException) -> str:
    """Say why something failed, for the user.

    Of the system's errors, that is what and which file; of a bug, where it is.
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if type(error).__module__ == "builtins" and not isinstance(error, OSError):
        return last_line(error)
    return (in_one_line(error) or type(error).__name__).rstrip(".")


# What is said where the error is none of torch's own: by its allocator on the CPU, by Apple's, by CUDA's libraries, by
# oneDNN, which has no other words for it, and by C++.
SAID = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "ALLOC_FAILED",
    "create a primitive",
    "bad_alloc",
)


def ran_out(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    import torch

    return isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in SAID)


def where(error: BaseException) -> str:
    """Name the plugin's hook in which memory ran out; an empty text where it was not in a plugin."""
    notes = getattr(error, "__notes__", ())
    return f", in {notes[0]}" if notes else ""


def gone(error: BaseException) -> bool:
    """Tell whether an error means that another process has ended during a call that all make together."""
    if not isinstance(error, RuntimeError):  # DistError is one
        return False
    from torch import distributed as dist

    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)
