"""Peak: measure the memory of a way, in a process of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch

from regkit.training.estimate import memory_in_use
from tests.benchmarks.options import Options
from tests.benchmarks.turns import Way

Result = TypeVar("Result")


@dataclass(frozen=True)
class Peak:
    """Bytes of the process, or of the GPU's memory."""

    most: int
    loaded: int | None = None  # when all is loaded and nothing was done


def alone(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a process of its own: what others took would stay with this one's."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def peak_of(make: Callable[[], Way], options: Options) -> Peak:
    """Measure the memory of this process before and while a way does its work."""
    torch.set_num_threads(options.threads)
    work = make().work
    loaded = memory_in_use(options.device)
    for number in range(options.rounds):
        work(number)
    if options.device.type == "cuda":
        return Peak(torch.cuda.max_memory_allocated(options.device), loaded)
    status = Path("/proc/self/status").read_text(encoding="utf8")  # not getrusage, which begins with the parent's peak
    return Peak(int(status.partition("VmHWM:")[2].split()[0]) * 1024, loaded)
