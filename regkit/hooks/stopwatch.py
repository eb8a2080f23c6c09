"""Stopwatch: how long each plugin works, without the time of the plugins that it sets to work itself."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CORE = "regkit"  # whose time it is when no plugin works


class Stopwatch:
    """Seconds and forward passes by plugin, counted while it runs."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.running = False
        self.seconds: dict[str, float] = defaultdict(float)
        self.passes: Counter[str] = Counter()
        self.owners = [CORE]
        self.since = 0.0

    @contextmanager
    def on(self, owner: str) -> Iterator[None]:
        """Whatever happens inside is the work of this owner."""
        self.lap()
        self.owners.append(owner)
        try:
            yield
        finally:
            self.lap()
            self.owners.pop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Whatever happens inside is not counted."""
        self.lap()
        found, self.running = self.running, False
        try:
            yield
        finally:
            self.running = found
            self.since = self.now() if found else 0.0

    def start(self) -> None:
        """Count from nothing."""
        self.seconds, self.passes = defaultdict(float), Counter()
        self.running, self.since = True, self.now()

    def stop(self) -> None:
        """Count no more."""
        self.lap()
        self.running = False

    def count(self) -> None:
        """A forward pass of the present owner begins."""
        if self.running:
            self.passes[self.owners[-1]] += 1

    def lap(self) -> None:
        """The time since the last lap goes to the present owner."""
        if self.running:
            now = self.now()
            self.seconds[self.owners[-1]] += now - self.since
            self.since = now

    def now(self) -> float:
        """Seconds on a clock, once the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
