"""Cost: measure the time and the memory that the training of a run takes."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from math import nan
from pathlib import Path

import torch

from regkit.hooks.spec import hookimpl

STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc_pid_clear_refs(5): the peak of the memory becomes what it is now


@dataclass
class Clock:
    """Observes a run and counts seconds and updates of this process, from the first moment of training to the last."""

    seconds: float = 0.0
    updates: int = 0

    def __enter__(self) -> "Clock":
        self.began = time.monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = time.monotonic() - self.began

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        self.updates += 1

    @hookimpl(trylast=True)
    def skipped(self) -> None:
        self.updates += 1

    def of(self, updates: int) -> float:
        """Tell the seconds of a whole run of so many updates, of which this process may have made the last ones only."""
        return self.seconds * updates / self.updates if self.updates else nan


def begin_peak(device: torch.device) -> None:
    """Begin to look for the peak of the memory, on CUDA of the device, elsewhere of the process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # not Linux, or not allowed
        REFERENCES.write_text(RESET_PEAK)


def peak(device: torch.device) -> float:
    """Read the peak of the memory since `begin_peak`, in bytes; NaN where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        if found := re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE):
            return 1024.0 * int(found[1])
    return nan
