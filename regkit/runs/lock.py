"""Lock: let one process at a time write a run's folder; the system releases it when the process ends."""

import os
import socket
from pathlib import Path
from typing import IO

from regkit.base.errors import RunError

LOCK = "lock"  # the file; it stays in the folder, and means nothing while nobody holds it


def claim(folder: Path) -> IO[str]:
    """Lock a folder until the returned file is closed. Raises RunError naming the process that has it."""
    import fcntl  # not on Windows, where the rest of regkit can be imported all the same

    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    file = os.fdopen(handle, "r+", encoding="utf8", errors="replace")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with file:
            owner = file.readline().strip() or "another process"
        raise RunError(f"{folder} is being written by {owner}; wait until it ends, or name another --output.") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file
