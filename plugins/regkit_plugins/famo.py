"""FAMO: weigh the losses so that those of all tasks fall at the same rate (Liu et al., NeurIPS 2023).

Algorithm 1 of arXiv 2306.03792. An update follows the sum of w L with w = c z / L. Here z is the softmax over the tasks of
numbers xi, and c makes the w add up to 1. Then a forward pass computes the losses of the same batches again, and the xi
descend along the transposed Jacobian of z times (log L before - log L after), by Adam with weight decay, as the authors do.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from regkit import Losses, MultitaskModel, NonNegative, Positive, Task, Tuned, hookimpl

SMALLEST = 1e-8  # lower bound of a loss whose logarithm is taken


@dataclass
class FAMO:
    learning_rate: Annotated[Positive, Tuned(0.001, 0.1, log=True)] = 0.025
    """Learning rate of the xi."""
    weight_decay: Annotated[NonNegative, Tuned(1e-4, 1e-2, log=True)] = 0.001
    """Weight decay of the xi (gamma): pulls them to 0, where all z are equal."""
    heads: nn.ModuleDict = field(init=False, repr=False)
    xi: nn.ParameterDict = field(init=False, repr=False)
    optimizer: torch.optim.Adam = field(init=False, repr=False)
    factors: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # of this update
    weights: dict[str, float] = field(init=False, repr=False, default_factory=dict)  # of the last completed update

    @hookimpl
    def prepare(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        device = model.device
        self.heads = model.heads
        self.xi = nn.ParameterDict({task.name: torch.zeros((), device=device) for task in tasks})
        self.optimizer = torch.optim.Adam(self.xi.values(), lr=self.learning_rate, weight_decay=self.weight_decay)

    @hookimpl(wrapper=True)
    def combine_gradients(
        self, tasks: Sequence[Task], gradients: Tensor, losses: Losses
    ) -> Generator[None, Tensor, Tensor]:
        names = [task.name for task in tasks]
        factors = self._shares(names).detach() / _positive([losses[name]["task"] for name in names])
        factors /= factors.sum()
        gradients *= factors[:, None]
        self.factors = dict(zip(names, factors.tolist(), strict=True))
        for name, weight in self.factors.items():  # the rows do not hold the gradients of heads
            for parameter in self.heads[name].parameters():
                if parameter.grad is not None:
                    parameter.grad *= weight
        return (yield)

    @hookimpl
    def after_step(self, losses: Losses, reevaluate: Callable[[], Mapping[str, Tensor]]) -> None:
        if len(losses) < 2:
            return
        self.weights, now = self.factors, reevaluate()
        before = _positive([terms["task"] for terms in losses.values()])
        fall = before.log() - _positive([now[name] for name in losses]).log()
        if not fall.isfinite().all():  # a loss after the update may overflow, and would spoil the xi for good
            return
        self.optimizer.zero_grad()
        torch.autograd.backward(self._shares(list(losses)), fall)
        self.optimizer.step()

    @hookimpl
    def measure(self, task: Task) -> Mapping[str, float]:
        """Report the factor of the task's gradient in the last update."""
        return {f"weight of {task.name}": self.weights[task.name]} if task.name in self.weights else {}

    def state_dict(self) -> dict[str, Any]:
        return {"xi": self.xi.state_dict(), "optimizer": self.optimizer.state_dict(), "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.xi.load_state_dict(state["xi"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.weights = dict(state["weights"])

    def _shares(self, names: Sequence[str]) -> Tensor:
        """Compute z of these tasks, `[tasks]`; it adds up to 1."""
        return torch.stack([self.xi[name] for name in names]).softmax(0)


def _positive(losses: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(losses)).float().clamp(min=SMALLEST)
