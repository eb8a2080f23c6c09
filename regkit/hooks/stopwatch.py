"""Stopwatch: measure how long each plugin works, without the time of plugins that it calls itself."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from regkit.base.errors import EncoderError
from regkit.model import Encoder

CORE = "regkit"  # whose time it is when no plugin works


class Stopwatch:
    """Seconds and forward passes by plugin, counted while it runs.

    A plugin's pass is one by the hook `encode`, or one that it makes itself through the encoder or a copy of it.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.running = False
        self.seconds: dict[str, float] = defaultdict(float)
        self.encoded: Counter[str] = Counter()  # passes by the hook `encode`
        self.entered: Counter[str] = Counter()  # layers that were run without it
        self.layers: Sequence[nn.Module] = ()  # of the encoder
        self.inside = 0  # calls of `encode` that are being made now
        self.owners = [CORE]
        self.since = 0.0

    @contextmanager
    def on(self, owner: str) -> Iterator[None]:
        """Charge the time inside to this owner, and the layers that it runs past `encode`."""
        self.lap()
        self.owners.append(owner)
        counting = register_module_forward_pre_hook(self._enter) if self._counts_layers else None
        try:
            yield
        finally:
            if counting:
                counting.remove()
            self.lap()
            self.owners.pop()

    @property
    def _counts_layers(self) -> bool:
        """Whether layers have to be counted from here on: the outermost plugin at work counts for all inside."""
        return self.running and bool(self.layers) and len(self.owners) == 2

    def _enter(self, module: nn.Module, arguments: object) -> None:
        if self.running and not self.inside and isinstance(module, tuple(map(type, self.layers))):
            self.entered[self.owners[-1]] += 1

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

    def start(self, encoder: Encoder | None = None) -> None:
        """Start counting from zero; passes that go past `encode` are counted by the layers of the encoder."""
        self.seconds, self.encoded, self.entered = defaultdict(float), Counter(), Counter()
        try:
            self.layers = list(encoder.layers) if encoder else ()
        except EncoderError:  # it has no list of them
            self.layers = ()
        self.running, self.since = True, self.now()

    def stop(self) -> None:
        """Stop counting."""
        self.lap()
        self.running = False

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Count a forward pass of the present owner, which is made inside."""
        if self.running:
            self.encoded[self.owners[-1]] += 1
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    @property
    def passes(self) -> dict[str, float]:
        """Forward passes by owner; half of the encoder's layers are half a pass."""
        past = {owner: layers / len(self.layers) for owner, layers in self.entered.items()}
        return {**self.encoded, **{owner: self.encoded[owner] + more for owner, more in past.items()}}

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
