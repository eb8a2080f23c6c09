"""Lock: let one process at a time write a run's folder; the system releases it when the process ends."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO

from regkit.base.errors import RunError
from regkit.base.files import naming

LOCK = "lock"  # the file; it stays in the folder, and means nothing while nobody holds it
Say = Callable[[str], None]  # prints what the user must know


def claim(folder: Path, say: Say) -> IO[str]:
    """Lock a folder until the returned file is closed. Raises RunError naming the process that has it.

    Some disks, such as those of a network, have no locks. A run on one of them is trained, and says that it is not locked.
    """
    import fcntl  # not on Windows, where the rest of regkit can be imported all the same

    file = _open(folder / LOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            owner = file.readline().strip() or "another process"
        raise RunError(f"{folder} is being written by {owner}; wait until it ends.") from None
    except OSError as error:
        say(f"{folder} cannot be locked ({error.strerror}): nothing keeps a second process from writing there")
    with naming(folder / LOCK):
        os.truncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return file


def held(folder: Path) -> bool:
    """Whether a process is writing this folder. On a disk without locks, nobody can tell, and it is not."""
    import fcntl

    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _open(path: Path) -> IO[str]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; a run writes in its own folder.") from None
    return os.fdopen(handle, "r+", encoding="utf8", errors="replace")
