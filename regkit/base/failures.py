"""Failures: tell what another library's exception means: out of memory, or a process has ended."""

import traceback


def last_line(error: BaseException) -> str:
    """Sum up an exception: the last line of its traceback, and the line of code that it points to."""
    frames = traceback.extract_tb(error.__traceback__)
    said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{said} ({error.filename}, line {error.lineno})"
    return f"{said} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else said


def reason(error: BaseException) -> str:
    """Say why something failed, for the user.

    Of the system's errors, that is what and which file; of a bug, where it is.
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if type(error).__module__ == "builtins" and not isinstance(error, OSError):
        return last_line(error)
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


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
