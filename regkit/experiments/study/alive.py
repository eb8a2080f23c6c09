"""Alive: show that a worker lives, and tell whether another one does.

On one host, a file that the worker holds locked tells at once: the system unlocks it, however the worker ends. From
another host, or on a disk without locks, a counter in the trial's attributes tells, in a minute and a half.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

WORKERS = "workers"  # a folder in that of a study: what its workers hold locked
BEAT = 15.0  # seconds between two counts
PATIENCE = 90.0  # seconds without one after which a worker is dead
Verdict = Literal["alive", "dead", "unknown"]


@dataclass
class Pulse:
    """Shows that this worker lives while the block is open.

    It locks a file, and `beat` writes a counter.
    """

    folder: Path
    beat: Callable[[int], None]  # writes the count; called from a thread
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}")
    count: int = 0

    def __enter__(self) -> "Pulse":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = _file(self.folder, self.name)
        self.held: IO[str] = self.path.open("w")
        self.locked = _locks(self.held)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._count, daemon=True, name="pulse")
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.thread.join()
        self.path.unlink(missing_ok=True)
        self.held.close()

    @property
    def attributes(self) -> dict[str, Any]:
        """What a trial says of its worker."""
        lock = str(self.path.resolve()) if self.locked else ""
        return {"worker": self.name, "host": socket.gethostname(), "lock": lock, "beat": self.count}

    def _count(self) -> None:
        while not self.ended.wait(BEAT):
            self.count += 1
            self.beat(self.count)


@dataclass
class Watch:
    """Tells of other workers' trials whether their worker lives."""

    folder: Path = Path(WORKERS)  # of the study's workers, as it is seen from here
    seen: dict[int, tuple[Any, float, bool]] = field(default_factory=dict)  # by trial: its count, since when, it moved
    clock: Callable[[], float] = time.monotonic

    def judge(self, number: int, attributes: Mapping[str, Any]) -> Verdict:
        """Tell whether the worker of a trial lives. `unknown` asks to look again later."""
        if attributes.get("host") == socket.gethostname() and attributes.get("lock"):
            here = self.lock_of(attributes)
            if here and (held := _is_held(here)) is not None:
                return "alive" if held else "dead"
        beat, now = attributes.get("beat"), self.clock()
        before, since, moved = self.seen.get(number, (beat, now, False))
        if beat != before:
            since, moved = now, True
        self.seen[number] = (beat, since, moved)
        if now - since > PATIENCE:
            return "dead"
        return "alive" if moved else "unknown"

    def lock_of(self, attributes: Mapping[str, Any]) -> Path | None:
        """Find the file of a trial's worker, if it is there: in the study's folder of today, or where it was begun."""
        places = _file(self.folder, attributes.get("worker", "")), Path(attributes.get("lock", ""))
        return next((path for path in places if path.is_file()), None)


def _locks(file: IO[str]) -> bool:
    """Lock a file, if its disk has locks. Raises BlockingIOError where another process holds it."""
    import fcntl  # not on Windows, where the rest of regkit can be imported all the same

    try:
        fcntl.flock(file, (fcntl.LOCK_EX if file.writable() else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _file(folder: Path, worker: str) -> Path:
    return folder / f"{worker}.lock"


def _is_held(path: Path) -> bool | None:
    """Whether a worker holds its file; None where that cannot be told: it is not seen from here."""
    try:
        with path.open() as file:
            return False if _locks(file) else None
    except BlockingIOError:
        return True
    except OSError:
        return None
