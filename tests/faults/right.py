"""Plugins that are right: what the kit says of the wrong ones is not said of everything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from regkit import Classification, MultitaskModel, PluginError, Predict, Task, TaskLoss, hookimpl
from tests.faults.plugins import ProjectionUntrained, Terms


class OtherLoss:
    """Adds the loss of a second pass."""

    @hookimpl
    def extra_losses(self, embeddings: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss) -> Terms:
        return {"mine": 0.1 * (task_loss(predict(embeddings * 1.1)) - loss)}


class ClassesOnly:
    """Refuses by name what it cannot handle."""

    @hookimpl
    def prepare(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if not isinstance(task.objective, Classification):
                raise PluginError(f"'mine' is for classes, and task '{task.name}' has none; leave it out by `tasks`.")

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        return {"mine": F.softmax(output, 1).square().mean()}


@dataclass(slots=True)
class Reporter:
    """Looks on, and counts on the scores of every task."""

    best: float = field(default=0.0, init=False)

    @hookimpl
    def evaluated(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        self.best = max(self.best, *(next(iter(each.values())) for each in scores.values()))


@dataclass
class ProjectionTrained(ProjectionUntrained):
    """Trains its module by an optimizer of its own."""

    optimizer: torch.optim.Optimizer = field(init=False)

    @hookimpl
    def prepare(self, model: MultitaskModel) -> None:
        self.projection = torch.nn.Linear(1, 4)
        self.optimizer = torch.optim.SGD(self.projection.parameters(), lr=0.1)

    @hookimpl
    def after_step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return {"projection": self.projection.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.projection.load_state_dict(state["projection"])


class ActsNowhere:
    """Has nothing to say of the tiny tasks."""

    @hookimpl
    def extra_losses(self, task: Task, output: Tensor) -> Terms:
        return {"mine": output.square().mean()} if task.name == "sentiment" else {}


RIGHT = (OtherLoss, ClassesOnly, Reporter)
