"""Log: write a line of JSON for every update, evaluation and skipped step of a run."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regkit.base.files import naming
from regkit.hooks.spec import Losses

TOGETHER = 20  # updates whose losses are read at once: that waits for the GPU


@dataclass
class Log:
    """Appends to a file. Updates are written together; anything else is written at once, after them."""

    file: Path
    pending: list[tuple[str, int, float, Losses, Mapping[str, Any]]] = field(default_factory=list)

    def update(self, stage: str, step: int, rate: float, losses: Losses, effects: Mapping[str, Any]) -> None:
        """Record an update: its learning rate, its losses by task and term, and what was measured in it."""
        self.pending.append((stage, step, rate, losses, effects))
        if len(self.pending) == TOGETHER:
            self._catch_up()

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a line, with the time."""
        self._catch_up()
        self._append(record)

    def flushed(self) -> int:
        """Write everything to the disk, and return the size of the file in bytes."""
        self._catch_up()
        with naming(self.file), self.file.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def cut(self, size: int) -> None:
        """Truncate the log to this size."""
        with naming(self.file), self.file.open("ab") as file:
            file.truncate(min(size, file.tell()))

    def records(self) -> list[dict[str, Any]]:
        """Read every line."""
        self._catch_up()
        return [json.loads(line) for line in self.file.read_text(encoding="utf8").splitlines()]

    def _catch_up(self) -> None:
        for stage, step, rate, losses, effects in self.pending:
            numbers = {task: {term: float(value) for term, value in terms.items()} for task, terms in losses.items()}
            record = {"stage": stage, "step": step, "learning_rate": rate, "losses": numbers}
            self._append(record | ({"effects": effects} if effects else {}))
        self.pending.clear()

    def _append(self, record: Mapping[str, Any]) -> None:
        with naming(self.file), self.file.open("a", encoding="utf8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **record}) + "\n")
