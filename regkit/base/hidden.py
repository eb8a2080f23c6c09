"""Hidden: where a file or a folder is written before it takes its name."""

import glob
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

LEFT = 24 * 3600  # seconds after which nobody writes any more to what was begun: its process was killed
# `.part` is what is being written; `.old` is what it replaces, or what is being removed. Hidden files of others have neither.
FORM = re.compile(r"\.(.+)\.\d+(\.part|\.part\.old|\.old)")


def hidden(path: Path) -> Path:
    """Name the place beside a path where this process writes what shall be there.

    What a process that was killed has left in such a place is removed a day later: a process of another machine cannot be
    asked whether it still runs.
    """
    for other in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):  # another process removes it, too, or it is somebody else's
            _remove(other)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def meant(place: Path) -> str | None:
    """Name the file or folder that a hidden place stands for; None for any other file."""
    found = FORM.fullmatch(place.name)
    return found[1] if found else None


def _remove(place: Path) -> None:
    is_folder = place.is_dir() and not place.is_symlink()
    written = max(each.lstat().st_mtime for each in [place, *(place.rglob("*") if is_folder else ())])
    if time.time() - written > LEFT:
        shutil.rmtree(place) if is_folder else place.unlink()
