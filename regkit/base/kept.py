"""Kept: build a folder once and find it again, by a name that is a key of all that it depends on.

A folder is built under a temporary name, under a lock that is released when the process ends, and renamed when it is whole.
So a folder that bears its name is complete. A second builder waits and uses the first one's. The folder of a killed builder
has a free lock, and the next builder removes it.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from regkit.base.errors import DataError
from regkit.base.files import flush

if TYPE_CHECKING:
    from filelock import FileLock

Found = TypeVar("Found")
Say = Callable[[str], None]  # prints what the user must know

UNFINISHED = ".unfinished"
KEY = 32  # letters of a key: 128 bits
KEPT = re.compile(rf"[0-9a-f]{{{KEY}}}(\..*{re.escape(UNFINISHED)})?")  # names of folders that are kept, or being built
MEASURED = "measured"  # a folder of a cache: a few bytes each, by which later runs are the same as this one


class UnkeptError(DataError):
    """Report a folder that cannot be written. Nothing of it was kept."""


def cache_root() -> Path:
    """Return `$REGKIT_CACHE`, or `regkit` in the cache folder: `$XDG_CACHE_HOME` or ~/.cache.

    Raises UnkeptError for a user without a home.
    """
    if chosen := os.environ.get("REGKIT_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regkit"
    except RuntimeError:
        raise UnkeptError("there is no home folder for what is kept; REGKIT_CACHE names another place.") from None


def build_once(
    root: Path,
    key: Callable[[], str],
    read: Callable[[Path], Found],
    write: Callable[[Path], None],
    *,
    name: str,
    files: Sequence[Path] = (),
    say: Say,
    sync: bool = True,
) -> Found:
    """Read a folder below `root`; write it first if it is missing, or damaged: `read` raises DataError.

    `key` hashes all that the folder depends on, and becomes its name. `files` are those that it is made of, and `name` is
    what messages call it. Without `sync` nothing waits for the disk, so `read` has to check every byte. Raises UnkeptError
    if it cannot be written, and DataError if one of the files changes meanwhile.
    """
    states = {path: _state(path) for path in files}  # before the key: a later change is noticed
    place = root / key()
    if found := _existing(place, read):
        return found
    with _writable(place.parent, name), _locked(place, name, say):
        if found := _existing(place, read, lambda why: say(f"{name[0].upper()}{name[1:]} is built again: {why}")):
            return found
        _clear(place)
        with _finished(place, sync) as folder:
            write(folder)
            _check_unchanged(states)
    return read(place)


def _state(path: Path) -> tuple[int, ...]:
    """Return numbers that change when the file changes."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _check_unchanged(states: dict[Path, tuple[int, ...]]) -> None:
    """Raise DataError if a file has changed since its key was computed."""
    for path, state in states.items():
        if not path.exists() or _state(path) != state:
            raise DataError(f"{path} was changed while it was read; begin again when nothing writes to it any more.")


def _existing(place: Path, read: Callable[[Path], Found], say: Say | None = None) -> Found | None:
    """Read the folder if it exists and is whole; say why if it is damaged."""
    if not place.exists():
        return None
    try:
        return read(place)
    except DataError as error:
        if say:
            say(str(error))
        return None


@contextmanager
def _writable(root: Path, name: str) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, NotImplementedError) as error:  # filelock's, of a disk without locks, is no OSError
        why = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise UnkeptError(f"{name} cannot be written to {root}: {why}. Nothing was kept.") from None


@contextmanager
def _locked(place: Path, name: str, say: Say) -> Iterator[None]:
    from filelock import Timeout

    lock = _lock(place.name, place.parent)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"Waiting for another run, which is building {name}.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock(key: str, root: Path) -> "FileLock":
    from filelock import FileLock  # which takes as long to import as all that this module is asked for without a lock

    return FileLock(root / f"{key}.lock")


def _clear(place: Path) -> None:
    """Remove a damaged folder, and the unfinished ones of builders that have ended."""
    from filelock import Timeout

    if place.exists():
        shutil.rmtree(place)
    for left in place.parent.glob(f"*{UNFINISHED}"):
        key = left.name.partition(".")[0]
        with suppress(Timeout), nullcontext() if key == place.name else _lock(key, place.parent).acquire(timeout=0):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _finished(place: Path, sync: bool) -> Iterator[Path]:
    """Make a new folder that becomes `place` if the block succeeds, and is removed otherwise."""
    folder = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=UNFINISHED, dir=place.parent))
    try:
        yield folder
        if sync:
            flush(folder)
        folder.rename(place)
        if sync:
            flush(place.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # it no longer exists after the rename


def kept_below(root: Path) -> dict[Path, int]:
    """Find the folders that are kept below a cache's folder, and the bytes of each.

    `MEASURED` is left out. Whatever else is there is somebody's: REGKIT_CACHE may name any folder.
    """
    return {
        place: sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        for place in sorted(root.glob("*/*"))
        if KEPT.fullmatch(place.name) and place.parent.name != MEASURED and place.is_dir() and not place.is_symlink()
    }


def forget(place: Path) -> bool:
    """Remove a folder that is kept, unless it is being built. Raises OSError.

    Whoever has it open goes on with it; on the next run it is built again.
    """
    from filelock import Timeout

    try:
        with _lock(place.name.partition(".")[0], place.parent).acquire(timeout=0):
            shutil.rmtree(place)
    except Timeout:
        return False
    return True
