"""DWA: give the largest weight to the tasks whose loss falls slowest (Liu et al., CVPR 2019).

From arXiv 1803.10704: a task's weight is the softmax over tasks of r / T, times the number of tasks, where r is its
mean loss of the last epoch divided by its mean loss of the epoch before. In the first two epochs all weights are 1. No weight
is below 1e-6, so that the unweighted losses can be computed from the weighted ones.
"""

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from regkit import Losses, Positive, Task, hookimpl

SMALLEST = 1e-6  # lower bound of a weight: a loss times much less than this would be 0 in float32


@dataclass
class DWA:
    T: Positive = 2.0
    """Temperature: the larger, the more equal the weights."""
    weights: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # 1 if a task is not listed
    sums: dict[str, Tensor] = field(init=False, repr=False, default_factory=dict)  # of this epoch's losses, by task
    counts: dict[str, int] = field(init=False, repr=False, default_factory=dict)
    before: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # mean losses of the epoch before

    @hookimpl(wrapper=True)
    def task_loss(self, task: Task) -> Generator[None, Tensor, Tensor]:
        loss = yield
        return self.weights.get(task.name, 1.0) * loss

    @hookimpl
    def after_step(self, losses: Losses) -> None:
        for name, terms in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + terms["task"] / self.weights.get(name, 1.0)
            self.counts[name] = self.counts.get(name, 0) + 1

    @hookimpl
    def evaluated(self) -> None:
        """Compute the next epoch's weights from the mean losses of the epoch that ends, if any."""
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        now = {name: mean for name, mean in means.items() if math.isfinite(mean)}
        both = [name for name in now if self.before.get(name)]
        if both:
            ratios = torch.tensor([now[name] / self.before[name] for name in both], dtype=torch.float64)
            weights = (len(both) * (ratios / self.T).softmax(0)).clamp(min=SMALLEST)
            self.weights = dict(zip(both, weights.tolist(), strict=True))
        self.before, self.sums, self.counts = now or self.before, {}, {}

    @hookimpl
    def measure(self, task: Task) -> Mapping[str, float]:
        """Report the factor of the task's loss."""
        return {f"weight of {task.name}": self.weights.get(task.name, 1.0)}

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "sums": self.sums, "counts": self.counts, "before": self.before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights, self.sums = dict(state["weights"]), dict(state["sums"])
        self.counts, self.before = dict(state["counts"]), dict(state["before"])
