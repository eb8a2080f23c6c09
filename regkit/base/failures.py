"""Failures: what an exception of another library means - memory ran out, a process is gone - and its last line."""

import traceback

import torch
from torch import distributed as dist


def last_line(error: BaseException) -> str:
    """What went wrong and where: the last line of the traceback, and the line of code it points to."""
    frames = traceback.extract_tb(error.__traceback__)
    said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{said} ({error.filename}, line {error.lineno})"
    return f"{said} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else said


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


def ran_out(error: Exception) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in SAID)


def where(error: BaseException) -> str:
    """The plugin's hook in which memory ran out, in words; nothing where it was none's."""
    notes = getattr(error, "__notes__", ())
    return f", in {notes[0]}" if notes else ""


def gone(error: BaseException) -> bool:
    """Whether an error says that another process is gone, inside a pass that all of them make together."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))
