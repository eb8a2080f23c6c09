"""Stopwatch: measure how long each plugin works, without the time of plugins that it calls itself."""

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
        """Charge the time inside to this owner."""
        self.lap()
        self.owners.append(owner)
        try:
            yield
        finally:
            self.lap()
            self.owners.pop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing inside."""
        self.lap()
        found, self.running = self.running, False
        try:
            yield
        finally:
            self.running = found
            self.since = self.now() if found else 0.0

    def start(self) -> None:
        """Start counting from zero."""
        self.seconds, self.passes = defaultdict(float), Counter()
        self.running, self.since = True, self.now()

    def stop(self) -> None:
        """Stop counting."""
        self.lap()
        self.running = False

    def count(self) -> None:
        """Count a forward pass of the present owner."""
        if self.running:
            self.passes[self.owners[-1]] += 1

    def lap(self) -> None:
        """Charge the time since the last lap to the present owner."""
        if self.running:
            now = self.now()
            self.seconds[self.owners[-1]] += now - self.since
            self.since = now

    def now(self) -> float:
        """Read the clock, in seconds, once the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
