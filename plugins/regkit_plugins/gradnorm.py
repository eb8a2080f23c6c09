"""GradNorm: make the tasks' gradients equally large, larger for slow ones (Chen et al., ICML 2018).

Section 3 of arXiv 1711.02257, with the gradient of all shared parameters in place of the last layer's. After each update the
weights descend sum |w g - target|. Here g is the norm of a task's unweighted gradient. The target, held constant, is the mean
of the w g times (the task's relative loss) ^ alpha. Then the weights are scaled to add up to their number.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor

from regkit import Losses, NonNegative, Positive, Task, Tuned, hookimpl


@dataclass
class GradNorm:
    alpha: Annotated[NonNegative, Tuned(0, 3)] = 1.5
    """How much larger the gradient of a slow task becomes; 0 makes all equally large."""
    learning_rate: Annotated[Positive, Tuned(0.001, 0.1, log=True)] = 0.025
    """Learning rate of the weights; their gradients are in units of the mean of the w g."""
    weights: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # 1 if a task is not listed
    first: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # unweighted losses at the start
    pulls: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # w g of this step, by task

    @hookimpl(wrapper=True)
    def task_loss(self, task: Task) -> Generator[None, Tensor, Tensor]:
        loss = yield
        return self.weights.get(task.name, 1.0) * loss

    @hookimpl(wrapper=True)
    def combine_gradients(self, tasks: Sequence[Task], gradients: Tensor) -> Generator[None, Tensor, Tensor]:
        norms = torch.linalg.vector_norm(gradients, dim=1).tolist()  # note: waits for the GPU
        self.pulls = dict(zip([task.name for task in tasks], norms, strict=True))
        return (yield)

    @hookimpl
    def after_step(self, losses: Losses) -> None:
        names = [name for name in self.pulls if name in losses]
        weights = torch.tensor([self.weights.get(name, 1.0) for name in names], dtype=torch.float64)
        pulls = torch.tensor([self.pulls[name] for name in names], dtype=torch.float64)
        weighted = torch.tensor([float(losses[name]["task"]) for name in names], dtype=torch.float64)
        now = (weighted / weights).clamp(min=1e-8)
        for name, loss in zip(names, now.tolist(), strict=True):
            self.first.setdefault(name, loss)
        if len(names) > 1 and pulls.all() and pulls.isfinite().all():
            ratios = now / torch.tensor([self.first[name] for name in names], dtype=torch.float64)
            target = pulls.mean() * (ratios / ratios.mean()) ** self.alpha
            whole = weights.sum()
            weights -= self.learning_rate * (pulls - target).sign() * pulls / weights / pulls.mean()
            weights = weights.clamp(min=1e-3)
            self.weights |= dict(zip(names, (whole * weights / weights.sum()).tolist(), strict=True))

    @hookimpl
    def measure(self, task: Task) -> Mapping[str, float]:
        """Report the factor of the task's loss."""
        return {f"weight of {task.name}": self.weights.get(task.name, 1.0)}

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights, "first": self.first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights, self.first = dict(state["weights"]), dict(state["first"])
