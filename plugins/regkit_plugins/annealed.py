"""Annealed: sample tasks by size at first, more equally later (Stickland and Murray, ICML 2019).

Section 4.1 of arXiv 1902.02671: in epoch e of E, a task with n examples is trained in proportion to n^a, with
a = 1 - 0.8 (e - 1) / (E - 1). An epoch has as many updates as the tasks have batches together; the counts are exact. In an
epoch in which a task's share rounds to 0 updates it gets none: the plan says so of the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch

from regkit import Share, Task, Tuned, apportion, hookimpl, turn


@dataclass
class Annealed:
    fall: Annotated[Share, Tuned(0, 1)] = 0.8
    """How far the exponent falls below 1 by the last epoch."""
    draw: int = field(init=False, repr=False, default=0)  # seed of the order of all epochs

    @hookimpl
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        self.draw = int(torch.randint(2**62, ()))
        return sum(task.batches for task in tasks)

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task], step: int, total_steps: int) -> Sequence[Task]:
        total = sum(task.batches for task in tasks)
        last = max(-(-total_steps // total) - 1, 1)  # a single epoch is the first, not the last
        exponent = 1 - self.fall * (step // total) / last
        shares = [len(task.splits["train"]) ** exponent for task in tasks]
        return [tasks[turn(apportion(shares, total), step, self.draw)]]
