"""Weighted: train tasks in proportion to weights of your own.

An epoch has as many updates as the tasks have batches together; the counts are exact, not sampled. A task of weight 0 is
scored but not trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch

from regkit import NonNegative, PluginError, Task, Tuned, apportion, hookimpl, nearest, turn


@dataclass
class Weighted:
    weights: dict[str, Annotated[NonNegative, Tuned(0.1, 10, log=True)]]
    """The weight of every task, such as {"sst": 1, "quora": 2}."""
    draw: int = field(init=False, repr=False, default=0)  # seed of the order of all epochs

    @hookimpl
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        self.draw = int(torch.randint(2**62, ()))
        names = [task.name for task in tasks]
        for name in self.weights:
            if name not in names:
                raise PluginError(f"'weighted' knows no task '{name}'. {nearest(name, names)}")
        for name in names:
            if name not in self.weights:
                raise PluginError(f"'weighted' has no weight for task '{name}'; 0 leaves a task out.")
        if not any(self.weights.values()):
            raise PluginError("'weighted' has only weights of 0; nothing would be trained.")
        return sum(task.batches for task in tasks)

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task], step: int) -> Sequence[Task]:
        total = sum(task.batches for task in tasks)
        counts = apportion([self.weights[task.name] for task in tasks], total)
        return [tasks[turn(counts, step, self.draw)]]
