"""Auto weights: hold terms of the loss at a share of the gradient.

That is what `weight=auto` and `weight=5%` ask for. What a weight of 1 comes to depends on task, encoder and term. A share
of the gradient means the same everywhere: a term at 5 % has a nineteenth of the gradient of the task's own loss, by their
norms. Some batches of each task are measured, most of the first ones, and the weight goes to what would have held the
share, later half of the way on a log scale. From then to the next measurement it falls as the term's size grows, which each
update gives for nothing: the gradient of a divergence grows as the divergence does, a hundredfold within a few updates. It
changes between updates only: all micro-batches of one have the same, and so has a second gradient at other weights.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from regkit.distributed.processes import ALONE, Processes
from regkit.hooks.spec import Losses, hookimpl
from regkit.hooks.traits import is_scaled
from regkit.model import MultitaskModel
from regkit.tasks.task import Task
from regkit.training.effects import gradient_norm
from regkit.training.held_weight import LEAST, Held, Measured, following

NAME = "weight=auto"  # as a plugin of the run, beside those of the user
EVERY = 100  # batches of a task between two that are measured, after those numbered 0, 1, 2, 4, 8, ... 64
FOLLOWED = 0.5  # of the way, in logarithms; all of it in the first EVERY batches, in which gradients change most

Answers = Sequence[Mapping[str, Tensor]]


@dataclass
class AutoWeights:
    """The weights of the terms of some plugins, by task and plugin.

    They are 0 until the first measurement. All processes have the same: measurements and losses are of all of them.
    """

    shares: Mapping[str, float]  # by plugin: of its terms in the sum of their gradient's norm and the task's
    plugins: Mapping[str, object] = field(default_factory=dict)  # of the run, by name
    owners: Mapping[str, str] = field(default_factory=dict)  # of the terms of the loss given so far: the plugin's name
    processes: Processes = ALONE
    held: dict[str, dict[str, Held]] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)  # batches of each task, in updates that were made
    owed: dict[str, list[str]] = field(default_factory=dict)  # by task: plugins whose terms were absent when due
    due: dict[str, set[str]] = field(default_factory=dict)  # by task: plugins to be measured in this update
    found: dict[str, dict[str, Measured | None]] = field(default_factory=dict)  # in it; None: no gradient

    @hookimpl
    def prepare(self) -> None:
        """Measure no step that is only tried, whatever a plan chose before."""
        self.due = {}

    @hookimpl(wrapper=True)
    def choose_tasks(self) -> Generator[None, Sequence[Task], Sequence[Task]]:
        """Decide whose batches are measured in this update."""
        chosen = yield
        self.found = {}
        self.due = {task.name: self._due(task.name) for task in chosen}
        return chosen

    def _due(self, task: str) -> set[str]:
        return set(self.shares if is_measured(self.seen.get(task, 0)) else self.owed.get(task, ()))

    @hookimpl(wrapper=True)
    def extra_losses(self, model: MultitaskModel, task: Task, loss: Tensor) -> Generator[None, Answers, Answers]:
        """Weigh the terms, and measure each in the first micro-batch of some batches that has it."""
        answers = yield
        own: dict[str, list[Tensor]] = {}
        for name, term in (pair for each in answers for pair in each.items()):
            if owner := self._weighed(name):
                own.setdefault(owner, []).append(term)
        found = self.found.setdefault(task.name, {})
        if now := self.due.get(task.name, set()) & own.keys() - found.keys():
            sums = {name: torch.stack(own[name]).sum() for name in own if name in now}
            found.update(holding(model, loss, sums, self.shares))
        held = self.held.get(task.name, {})
        return [{name: self._weight(name, held) * term for name, term in each.items()} for each in answers]

    @hookimpl
    def after_step(self, losses: Losses) -> None:
        """Let the weights follow the sizes of the terms, and what was measured, on average over the processes."""
        for task, terms in losses.items():
            self._resize(task, terms)
            due = self.due.get(task, set())
            if due and len(terms) > 1:  # or else no plugin added a term, in any process
                due = due - self._follow(task)
            self.owed = {**self.owed, task: sorted(due)}
        self.seen = {**self.seen, **{task: self.seen.get(task, 0) + 1 for task in losses}}

    @hookimpl
    def measure(self, task: Task) -> Mapping[str, float]:
        """Report the weights."""
        held = self.held.get(task.name, {})
        return {f"weight of {name} on {task.name}": float(each.present) for name, each in held.items()}

    def _weighed(self, term: str) -> str | None:
        """Name the plugin whose weight scales a term; None where that is no plugin that is weighed here."""
        owner = self.owners.get(term, "")
        return owner if owner in self.shares and is_scaled(self.plugins.get(owner), term) else None

    def _weight(self, term: str, held: Mapping[str, Held]) -> float | Tensor:
        owner = self._weighed(term)
        if owner is None:
            return 1.0
        return held[owner].present if owner in held else 0.0

    def _resize(self, task: str, terms: Mapping[str, Tensor]) -> None:
        held = dict(self.held.get(task, {}))
        for name, weight in held.items():
            if own := [term for each, term in terms.items() if self._weighed(each) == name]:
                held[name] = weight.resized(torch.stack(own).sum())
        self.held = {**self.held, task: held}

    def _follow(self, task: str) -> set[str]:
        """Let the weights follow what all processes have found. Returns the plugins whose terms were there."""
        gathered = self.processes.gather(self.found.get(task, {}))
        held, share = dict(self.held[task]), FOLLOWED if self.seen.get(task, 0) >= EVERY else 1.0
        there = {name for each in gathered for name in each}
        for name in sorted(there):
            if found := [Measured(*each[name]) for each in gathered if each.get(name)]:
                held[name] = following(held.get(name), found, share)
        self.held = {**self.held, task: held}
        return there

    def state_dict(self) -> dict[str, Any]:
        held = {
            task: {name: [None if each is None else float(each) for each in weight] for name, weight in known.items()}
            for task, known in self.held.items()
        }
        return {"held": held, "seen": self.seen, "owed": self.owed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.held = {
            task: {
                name: Held(weight, *(None if each is None else torch.tensor(each) for each in sizes))
                for name, (weight, *sizes) in known.items()
            }
            for task, known in state["held"].items()
        }
        self.seen, self.owed = dict(state["seen"]), dict(state["owed"])


def weigh(
    plugins: Mapping[str, Any], shares: Mapping[str, float], processes: Processes = ALONE
) -> tuple[dict[str, Any], AutoWeights]:
    """Put what holds terms at their shares outermost among the plugins. `owners` is still to be set."""
    auto = AutoWeights(shares, plugins, processes=processes)
    return ({NAME: auto} if shares else {}) | dict(plugins), auto


def is_measured(batch: int) -> bool:
    """Whether the batch of this number, from 0, is measured.

    It is with each doubling of their number, and then one in EVERY.
    """
    return batch % EVERY == 0 or (batch < EVERY and batch & (batch - 1) == 0)


def holding(
    model: MultitaskModel, loss: Tensor, terms: Mapping[str, Tensor], shares: Mapping[str, float]
) -> dict[str, Measured | None]:
    """Find the weight at which each plugin's terms have their share; None without a gradient."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found, whole = dict[str, Measured | None](), float(gradient_norm(loss, parameters))
    for name, term in terms.items():
        own = float(gradient_norm(term, parameters)) if term.requires_grad else 0.0
        weight = shares[name] / (1 - shares[name]) * whole / own if own else 0.0
        size = abs(float(term.detach()))
        size = size if LEAST < size < 1 / LEAST else 0.0
        found[name] = Measured(weight, size) if weight and isfinite(weight) else None
    return found
