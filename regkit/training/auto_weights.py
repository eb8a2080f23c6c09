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
from math import exp, isfinite, log
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regkit.distributed.processes import ALONE, Processes
from regkit.hooks.spec import Losses, hookimpl
from regkit.hooks.traits import is_scaled
from regkit.model import MultitaskModel
from regkit.tasks.task import Task
from regkit.training.effects import gradient_norm

NAME = "weight=auto"  # as a plugin of the run, beside those of the user
EVERY = 100  # batches of a task between two that are measured, after those numbered 0, 1, 2, 4, 8, ... 64
FOLLOWED = 0.5  # of the way, in logarithms; all of it in the first EVERY batches, in which gradients change most
MOST = 1e6  # weight: a teacher is a mere copy at first, and its term has hardly a gradient
LEAST = 1e-30  # weight, and size of a term that counts; less is 0 for float32 before long, and has no logarithm

Answers = Sequence[Mapping[str, Tensor]]


class Measured(NamedTuple):
    """What one process found in a batch."""

    weight: float  # that would have held the share
    size: float  # of the plugin's terms together, before they are weighed


class Size(NamedTuple):
    """How large a plugin's terms on a task are before they are weighed: a geometric mean in which the last batch has half."""

    then: Tensor  # when they were measured last; a scalar, and it stays where the losses are: nothing waits for a GPU
    now: Tensor


@dataclass
class AutoWeights:
    """The weights of the terms of some plugins, by task and plugin.

    They are 0 until the first measurement. All processes have the same: measurements and losses are of all of them.
    """

    shares: Mapping[str, float]  # by plugin: of its terms in the sum of their gradient's norm and the task's
    plugins: Mapping[str, object] = field(default_factory=dict)  # of the run, by name
    owners: Mapping[str, str] = field(default_factory=dict)  # of the terms of the loss given so far: the plugin's name
    processes: Processes = ALONE
    weights: dict[str, dict[str, float]] = field(default_factory=dict)  # when they were measured last
    sizes: dict[str, dict[str, Size]] = field(default_factory=dict)  # none of a term that has always been 0
    seen: dict[str, int] = field(default_factory=dict)  # batches of each task, in updates that were made
    owed: dict[str, list[str]] = field(default_factory=dict)  # by task: plugins whose terms were absent when due
    due: dict[str, set[str]] = field(default_factory=dict)  # by task: plugins to be measured in this update
    tried: dict[str, set[str]] = field(default_factory=dict)  # and those that were
    wanted: dict[str, dict[str, Measured]] = field(default_factory=dict)  # in this update

    @hookimpl
    def prepare(self) -> None:
        """Measure no step that is only tried, whatever a plan chose before."""
        self.due = {}

    @hookimpl(wrapper=True)
    def choose_tasks(self) -> Generator[None, Sequence[Task], Sequence[Task]]:
        """Decide whose batches are measured in this update."""
        chosen = yield
        self.wanted, self.tried = {}, {}
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
        tried = self.tried.setdefault(task.name, set())
        if now := self.due.get(task.name, set()) & own.keys() - tried:
            sums = {name: torch.stack(own[name]).sum() for name in own if name in now}
            self.wanted.setdefault(task.name, {}).update(holding(model, loss, sums, self.shares))
            tried |= now
        known = self.present(task.name)
        return [{name: self._weight(name, known) * term for name, term in each.items()} for each in answers]

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
        return {f"weight of {name} on {task.name}": float(weight) for name, weight in self.present(task.name).items()}

    def present(self, task: str) -> dict[str, float | Tensor]:
        """Compute the weights of a task's terms in the next update, by plugin: as much less as a term has grown.

        Not more where it has shrunk: a term that makes all answers the same would be pressed the harder for it.
        """
        sizes = self.sizes.get(task, {})
        less = {name: (size.then / size.now).clamp(LEAST, 1.0) for name, size in sizes.items()}
        return {name: weight * less.get(name, 1.0) for name, weight in self.weights.get(task, {}).items()}

    def _weighed(self, term: str) -> str | None:
        """Name the plugin whose weight scales a term; None where that is no plugin that is weighed here."""
        owner = self.owners.get(term, "")
        return owner if owner in self.shares and is_scaled(self.plugins.get(owner), term) else None

    def _weight(self, term: str, known: Mapping[str, float | Tensor]) -> float | Tensor:
        owner = self._weighed(term)
        return known.get(owner, 0.0) if owner else 1.0

    def _resize(self, task: str, terms: Mapping[str, Tensor]) -> None:
        """Learn from the losses of an update, which hold the terms as they were weighed, how large those are by now."""
        sizes = dict(self.sizes.get(task, {}))
        for name, weight in self.present(task).items():
            own = [term for each, term in terms.items() if self._weighed(each) == name]
            if own and name in sizes:
                grown = (torch.stack(own).sum().abs() / weight / sizes[name].now).sqrt()
                known = (grown > 0) & grown.isfinite()
                sizes[name] = sizes[name]._replace(now=sizes[name].now * grown.where(known, 1.0))
        self.sizes = {**self.sizes, task: sizes}

    def _follow(self, task: str) -> set[str]:
        """Let the weights follow what all processes have measured. Returns the plugins whose terms were there."""
        gathered = self.processes.gather([self.wanted.get(task, {}), sorted(self.tried.get(task, ()))])
        wanted = [each for each, _ in gathered]
        known, sizes, present = dict(self.weights.get(task, {})), dict(self.sizes[task]), self.present(task)
        share = FOLLOWED if self.seen.get(task, 0) >= EVERY else 1.0
        for name in sorted({name for each in wanted for name in each}):
            found = [Measured(*each[name]) for each in wanted if name in each]
            goal = fmean(log(each.weight) for each in found)
            if all(each.size for each in found):
                size = fmean(log(each.size) for each in found)
                now = sizes[name].now if name in sizes else torch.tensor(exp(size))
                sizes[name] = Size(now, now)
                goal += size - log(now)  # the batches measured stand for others, which are of the usual size
            before = log(present[name]) if name in present else goal
            known[name] = exp(min(max(before + share * (goal - before), log(LEAST)), log(MOST)))
        self.weights, self.sizes = {**self.weights, task: known}, {**self.sizes, task: sizes}
        return {name for _, tried in gathered for name in tried}

    def state_dict(self) -> dict[str, Any]:
        sizes = {
            task: {name: [float(each) for each in size] for name, size in known.items()}
            for task, known in self.sizes.items()
        }
        return {"weights": self.weights, "sizes": sizes, "seen": self.seen, "owed": self.owed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights = {task: dict(known) for task, known in state["weights"].items()}
        self.sizes = {
            task: {name: Size(*(torch.tensor(each) for each in size)) for name, size in known.items()}
            for task, known in state.get("sizes", {}).items()
        }
        self.seen, self.owed = dict(state["seen"]), dict(state.get("owed", {}))


def weigh(
    plugins: Mapping[str, Any], shares: Mapping[str, float], processes: Processes = ALONE
) -> tuple[dict[str, Any], AutoWeights]:
    """Put what holds terms at their shares outermost among the plugins, if any shall be; `owners` is still to be set."""
    auto = AutoWeights(shares, plugins, processes=processes)
    return ({NAME: auto} if shares else {}) | dict(plugins), auto


def is_measured(batch: int) -> bool:
    """Whether the batch of this number, from 0, is measured.

    It is with each doubling of their number, and then one in EVERY.
    """
    return batch % EVERY == 0 or (batch < EVERY and batch & (batch - 1) == 0)


def holding(
    model: MultitaskModel, loss: Tensor, terms: Mapping[str, Tensor], shares: Mapping[str, float]
) -> dict[str, Measured]:
    """Find the weight at which each plugin's terms would have their share; none without a gradient."""
    if not terms:
        return {}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found, whole = {}, float(gradient_norm(loss, parameters))
    for name, term in terms.items():
        own = float(gradient_norm(term, parameters)) if term.requires_grad else 0.0
        weight = shares[name] / (1 - shares[name]) * whole / own if own else 0.0
        size = abs(float(term.detach()))
        if weight and isfinite(weight):
            found[name] = Measured(weight, size if LEAST < size < 1 / LEAST else 0.0)
    return found
