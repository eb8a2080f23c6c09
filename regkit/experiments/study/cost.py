"""Cost: measure the time and the memory that the training of a run takes."""

import re
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import nan
from pathlib import Path

import torch

from regkit.hooks.spec import hookimpl
from regkit.tasks.task import Task
from regkit.training.evaluation import Evaluator

STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc_pid_clear_refs(5): the peak of the memory becomes what it is now


@dataclass
class Clock:
    """Observes a run and counts seconds and updates of this process.

    It counts from the first update to the end of training. What comes before is left out: in the first run of a process,
    libraries are imported there. So is the time of scoring: a method does not cost more by being scored more often.
    """

    evaluator: Evaluator
    seconds: float = 0.0
    updates: int = 0
    began: float | None = None

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds = self._time() - self.began if self.began is not None else 0.0

    @hookimpl(wrapper=True)
    def choose_tasks(self) -> Generator[None, Sequence[Task], Sequence[Task]]:
        """Begin to count."""
        self.began = self._time() if self.began is None else self.began
        return (yield)

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        self.updates += 1

    @hookimpl(trylast=True)
    def skipped(self) -> None:
        self.updates += 1

    def _time(self) -> float:
        return time.monotonic() - self.evaluator.seconds

    def of(self, updates: int) -> float:
        """Tell the seconds of a whole run of so many updates.

        This process may have made the last ones only.
        """
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
