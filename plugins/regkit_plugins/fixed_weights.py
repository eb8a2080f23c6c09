"""Fixed weights: multiply each task's loss by a number of your own.

Only the task's own loss is weighed; the terms of regularizers have weights of their own. Tasks without a weight have 1.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from regkit import NonNegative, PluginError, Task, Tuned, hookimpl, nearest


@dataclass
class FixedWeights:
    weights: dict[str, Annotated[NonNegative, Tuned(0.1, 10, log=True)]]
    """The factor of each task's loss, such as {"sst": 1, "sts": 0.5}."""

    @hookimpl
    def prepare(self, tasks: Sequence[Task]) -> None:
        names = [task.name for task in tasks]
        for name in self.weights:
            if name not in names:
                raise PluginError(f"'fixed_weights' knows no task '{name}'. {nearest(name, names)}")
        if not any(self.weights.get(name, 1.0) for name in names):
            raise PluginError("'fixed_weights' has only weights of 0; nothing would be trained.")

    @hookimpl(wrapper=True)
    def task_loss(self, task: Task) -> Generator[None, Tensor, Tensor]:
        loss = yield
        return self.weights.get(task.name, 1.0) * loss
