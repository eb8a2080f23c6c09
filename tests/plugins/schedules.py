"""Learning rates of a schedule, step by step: ours, and those of torch's own schedulers."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from regkit import Stage

PEAK = 3e-4


def factors(plugin: Any, total: int, warmup: float) -> list[float]:
    """The factors of a schedule on the peak, in each of so many steps."""
    stage = Stage("finetune", [], learning_rate=PEAK, warmup=warmup)
    return [plugin.schedule(stage, step, total) for step in range(total)]


def of_torch(make: Callable[[torch.optim.Optimizer], LRScheduler], total: int) -> list[float]:
    """The same of a scheduler of torch on an optimizer with this peak."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    scheduler, found = make(optimizer), []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"] / PEAK)
        optimizer.step()
        scheduler.step()
    return found
