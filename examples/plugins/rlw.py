"""Random loss weighting: weigh the tasks' losses by new random numbers in each update (Lin et al., 2022)."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from regkit import Task, hookimpl


@dataclass
class RLW:
    weights: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # of the next update, by task

    @hookimpl
    def prepare(self, tasks: Sequence[Task]) -> None:
        self.draw([task.name for task in tasks])

    @hookimpl(wrapper=True)
    def task_loss(self, task: Task) -> Generator[None, Tensor, Tensor]:
        loss = yield
        return self.weights[task.name] * loss

    @hookimpl
    def after_step(self) -> None:
        self.draw(list(self.weights))

    def draw(self, names: Sequence[str]) -> None:
        """Draw the weights: the softmax of normal numbers, times the number of tasks, so that their mean is 1."""
        weights = len(names) * torch.randn(len(names)).softmax(0)
        self.weights = dict(zip(names, weights.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights = dict(state["weights"])
