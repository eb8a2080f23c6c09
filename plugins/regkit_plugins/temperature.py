"""Temperature: sample tasks in proportion to n^(1/T) of their n examples.

As in T5 (Raffel et al., 2020, section 3.5.2): T = 1 is in proportion to size, T = 2 to its square root, and a large T trains
all tasks equally. An epoch has as many updates as the tasks have batches together; the counts are exact, not sampled. A task
whose share rounds to 0 updates gets none: the plan says so, and so does the end of the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch

from regkit import Count, PluginError, Positive, Task, Tuned, apportion, hookimpl, turn


@dataclass
class Temperature:
    T: Annotated[Positive, Tuned(1, 10, log=True)] = 2.0
    """Temperature: 1 goes by size, 2 by its square root; the larger, the more equal the shares."""
    cap: Count | None = None
    """Largest size that counts (K of T5): a task with more examples counts as this size."""
    draw: int = field(init=False, repr=False, default=0)  # seed of the order of all epochs

    @hookimpl
    def epoch_steps(self, tasks: Sequence[Task]) -> int:
        self.draw = int(torch.randint(2**62, ()))
        for task in tasks:
            if self.cap is not None and self.cap < task.batch_size:
                size = task.batch_size
                raise PluginError(
                    f"'temperature' has a cap of {self.cap}, below a batch of task '{task.name}' ({size})."
                )
        return sum(task.batches for task in tasks)

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task], step: int) -> Sequence[Task]:
        total = sum(task.batches for task in tasks)
        sizes = [min(len(task.splits["train"]), self.cap or len(task.splits["train"])) for task in tasks]
        shares = [(size / max(sizes)) ** (1 / self.T) for size in sizes]
        return [tasks[turn(apportion(shares, total), step, self.draw)]]
