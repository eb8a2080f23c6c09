"""Update: the gradient of one optimizer update, from one batch of each chosen task."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from regkit.base.errors import PluginError
from regkit.base.memory import Memory
from regkit.distributed.processes import ALONE, Processes
from regkit.hooks.spec import Losses
from regkit.model import MultitaskModel
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.training.passes import Passes
from regkit.training.rows import give_gradient, room_for_gradients, take_gradient

# What torch says of a graph that cannot be gone back through, and what a hook did then.
SPOILT = {
    "a second time": "calls backward(), or keeps a tensor of an earlier step without detach()",
    "modified by an inplace operation": "changes in place what the pass still needs",
}
Chosen = Sequence[tuple[Task, Sequence[Batch]]]  # the tasks of an update, each with its batch in micro-batches


@dataclass
class Update:
    """One optimizer update. Each process passes its own micro-batches, and all of them see the sums."""

    passes: Passes
    optimizer: torch.optim.Optimizer
    chosen: Chosen
    processes: Processes = ALONE
    memory: Memory = field(default_factory=Memory)  # of the tasks' gradients
    losses: Losses = field(default_factory=dict)  # of the first `compute`, detached: `recompute` does not change them

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the update, in the order of `choose_tasks`."""
        return [task for task, _ in self.chosen]

    def compute(self) -> None:
        """Compute the gradient into `.grad`, combined if several tasks share the update, and keep the losses."""
        model = self.passes.model
        for weight in model.parameters():
            weight.grad = None
        self.optimizer.zero_grad()  # it may hold a plugin's own parameters
        together = len(self.chosen) > 1 and combines(self.passes)
        rows = room_for_gradients(model, len(self.chosen), self.memory) if together else None
        losses = {}
        with self.processes.all_or_none():
            for number, (task, batches) in enumerate(self.chosen):
                losses[task.name] = self._backward(task, batches)
                if rows is not None:
                    take_gradient(model, rows[number])
        found = self.processes.sum_losses(losses)
        self.losses = self.losses or found
        self.processes.sum_gradients(parameters_of(model, self.optimizer))
        if rows is not None:
            give_gradient(model, self._combine(self.processes.sum(rows), found))

    def _combine(self, rows: Tensor, losses: Losses) -> Tensor:
        if not rows.sum().isfinite():  # then there is nothing to combine: the update will be skipped
            return rows.sum(0)
        combined: Tensor = self.passes.hook.combine_gradients(tasks=self.tasks, gradients=rows, losses=losses)
        return combined

    def _backward(self, task: Task, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Add the gradient of a task's batch to `.grad`; each micro-batch counts by its share."""
        totals: dict[str, Tensor] = {}
        for part, batch, counts in self.processes.own(batches):
            with self.passes.streams.within(task.name, part):
                terms = self.passes.losses(task, batch.to(self.passes.model.device))
            weight = share(batch, batches) if counts else 0.0
            terms = {name: term * weight for name, term in terms.items()}
            whole = torch.stack(list(terms.values())).sum()
            if not whole.requires_grad:
                raise PluginError(
                    f"the loss of task '{task.name}' has no gradient: a hook that answers or wraps embed, encode, predict "
                    "or task_loss, or the encoder itself, detached it from the weights."
                )
            with self._explained(task):
                torch.autograd.backward(whole)
            totals = {name: term.detach() + totals.get(name, 0) for name, term in terms.items()}
        return totals

    @contextmanager
    def _explained(self, task: Task) -> Iterator[None]:
        """Say what hooks or the encoder may have done where torch cannot go back through their graph."""
        try:
            yield
        except RuntimeError as error:
            done = next((done for said, done in SPOILT.items() if said in str(error)), "")
            if not done:
                raise
            plugins = " or ".join(f"'{name}'" for name in self.passes.plugins)
            owner = f"a hook of {plugins}" if plugins else "the encoder"
            raise PluginError(f"the loss of task '{task.name}' has no gradient any more: {owner} {done}.") from error

    @torch.no_grad()
    def reevaluate(self) -> dict[str, Tensor]:
        """Compute each task's clean loss of its batch at the present weights, under the same dropout masks."""
        found = {}
        for task, batches in self.chosen:
            total = torch.zeros((), device=self.passes.model.device)
            for part, batch, counts in self.processes.own(batches):
                with self.passes.streams.within(task.name, part):
                    loss = self.passes.clean(task, batch.to(self.passes.model.device)).loss
                total = total + loss * (share(batch, batches) if counts else 0.0)
            found[task.name] = self.processes.sum(total)
        return found


def combines(passes: Passes) -> bool:
    """Whether a plugin combines gradients per task. If none does, `.grad` accumulates their sum anyway."""
    return any(not answer.trylast for answer in passes.hook.combine_gradients.get_hookimpls())


def share(batch: Batch, batches: Sequence[Batch]) -> float:
    """Compute how much of a batch's predictions are in one of its micro-batches."""
    return batch.predictions / max(sum(each.predictions for each in batches), 1)


def parameters_of(model: MultitaskModel, optimizer: torch.optim.Optimizer | None) -> Iterator[Tensor]:
    """List the model's parameters, and those of plugins that only the optimizer knows; each once."""
    groups = optimizer.param_groups if optimizer else []
    others = [parameter for group in groups for parameter in group["params"]]
    yield from dict.fromkeys([*model.parameters(), *others])
