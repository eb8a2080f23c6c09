"""Uncertainty: weigh each task's loss by a learned noise level (Kendall et al., CVPR 2018).

Section 3.2 of arXiv 1705.07115, with s the logarithm of the variance: exp(-s) L / 2 + s / 2 for a squared error, and
exp(-s) L + s / 2 for a cross-entropy. Only the task's own loss is weighed. The s are in the optimizer, without weight decay,
and in the checkpoint.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from regkit import MultitaskModel, Positive, Regression, Task, Tuned, hookimpl

Optimizer = torch.optim.Optimizer


@dataclass
class Uncertainty:
    learning_rate: Annotated[Positive, Tuned(0.001, 0.1, log=True)] = 0.01
    """Peak learning rate of the s; it follows the schedule of the other parameters."""
    levels: nn.ParameterDict = field(init=False, repr=False)  # s of each task

    @hookimpl
    def prepare(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        device = model.device
        self.levels = nn.ParameterDict({task.name: torch.zeros((), device=device) for task in tasks})

    @hookimpl(wrapper=True)
    def make_optimizer(self) -> Generator[None, Optimizer, Optimizer]:
        optimizer = yield
        optimizer.add_param_group({"params": list(self.levels.values()), "lr": self.learning_rate, "weight_decay": 0.0})
        return optimizer

    @hookimpl(wrapper=True)
    def task_loss(self, task: Task) -> Generator[None, Tensor, Tensor]:
        loss = yield
        level: Tensor = self.levels[task.name]
        return self._factor(task) * loss + level / 2

    def _factor(self, task: Task) -> Tensor:
        share = 0.5 if isinstance(task.objective, Regression) else 1.0
        level: Tensor = self.levels[task.name]
        return share * torch.exp(-level)

    @hookimpl
    def measure(self, task: Task) -> Mapping[str, Tensor]:
        """Report the factor of the task's loss."""
        return {f"weight of {task.name}": self._factor(task).detach()}

    def state_dict(self) -> dict[str, Any]:
        return self.levels.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.levels.load_state_dict(state)
