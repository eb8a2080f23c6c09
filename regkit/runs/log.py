"""Log: write a line of JSON for every update, evaluation and skipped step of a run."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from torch import Tensor

from regkit.base.files import naming

TOGETHER = 20  # updates whose losses are read at once: that waits for the GPU
UPDATES = ("losses", "skipped")  # what the line of an update has, one of them
Record = dict[str, Any]


@dataclass
class Log:
    """Appends to a file. Updates are written together; anything else is written at once, after them."""

    file: Path
    tell: Callable[[Sequence[Record]], None] = lambda records: None  # is given each line that was written
    pending: list[Mapping[str, Any]] = field(
        default_factory=list
    )  # updates, their numbers still where they were computed
    updates: int = field(init=False, default=0)  # of the run, skipped ones too, that the file has

    def __post_init__(self) -> None:
        self.updates = sum(map(_is_update, self.records())) if self.file.is_file() else 0

    def update(self, record: Mapping[str, Any]) -> None:
        """Record an update; numbers may be tensors, which are read later."""
        self.pending.append({"time": _now(), **record})
        if len(self.pending) == TOGETHER:
            self._catch_up()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line, with the time."""
        self._catch_up({"time": _now(), **record})

    def flushed(self) -> int:
        """Write everything to the disk, and return the size of the file in bytes."""
        self._catch_up()
        with naming(self.file), self.file.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def records(self) -> list[Record]:
        """Read every line."""
        self._catch_up()
        return [json.loads(line) for line in self.file.read_text(encoding="utf8").splitlines()]

    def _catch_up(self, *more: Mapping[str, Any]) -> None:
        """Write the updates that are pending, and `more` lines after them."""
        records = [_plain(record) for record in (*self.pending, *more)]
        counts = accumulate(map(_is_update, records), initial=self.updates)
        records = [record | {"updates": count} for record, count in zip(records, islice(counts, 1, None), strict=True)]
        if not records:
            return
        with naming(self.file), self.file.open("a", encoding="utf8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        self.pending.clear()
        self.updates = records[-1]["updates"]
        self.tell(records)


def cut(path: Path, size: int) -> None:
    """Truncate a log to so many bytes.

    What a killed process wrote after its checkpoint may end within a line.
    """
    with naming(path), path.open("ab") as file:
        file.truncate(min(size, file.tell()))


def _is_update(record: Mapping[str, Any]) -> bool:
    return any(name in record for name in UPDATES)


def _now() -> float:
    return round(time.time(), 3)


def _plain(value: Any) -> Any:
    """Replace tensors by their numbers."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return float(value) if isinstance(value, Tensor) else value
