"""Proportional: train on every example of every task once per epoch, with the tasks in random order."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from regkit import Task, hookimpl, turn


@dataclass
class Proportional:
    draw: int = field(init=False, repr=False, default=0)  # seed of the order of all epochs

    @hookimpl
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        self.draw = int(torch.randint(2**62, ()))
        return sum(task.batches for task in tasks)

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task], step: int) -> Sequence[Task]:
        return [tasks[turn(tuple(task.batches for task in tasks), step, self.draw)]]
