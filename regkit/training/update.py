"""Gradients: the inner half of the loop - forward passes, losses and backward passes of one update."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from regkit.base.errors import PluginError
from regkit.base.failures import ran_out
from regkit.base.randomness import Streams
from regkit.distributed.processes import Processes
from regkit.hooks.spec import Predict
from regkit.model import MultitaskModel
from regkit.model.modes import autocast, mode
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.training.rows import give_gradient, room_for_gradients, take_gradient

Chosen = Sequence[tuple[Task, Sequence[Batch]]]  # the tasks of an update, each with its batch in micro-batches
Losses = dict[str, dict[str, Tensor]]  # by task and term

FINEST = 2**-5  # of the RMS of embeddings: below this, bf16 would round most of a perturbation away


@dataclass
class Gradients:
    """Computes gradients into `.grad`, as the plugins behind `hook` say. Only forward passes are in `precision`.

    Of several processes each makes the backward passes of its own micro-batches, and the sums are what all of them see.
    """

    model: MultitaskModel
    hook: Any  # pluggy's relay: one callable a hook
    streams: Streams
    precision: torch.dtype = torch.float32
    processes: Processes = field(default_factory=Processes)

    def compute(self, optimizer: torch.optim.Optimizer, chosen: Chosen) -> Losses:
        """Leave an update's gradient in `.grad`: that of its task, or the combined one of several. The losses, detached."""
        self.model.zero_grad()
        optimizer.zero_grad()  # it may hold a plugin's own parameters
        losses = {}
        rows = room_for_gradients(self.model, len(chosen)) if self.combined and len(chosen) > 1 else None
        with self.processes.all_or_none(ran_out):
            for number, (task, batches) in enumerate(chosen):
                losses[task.name] = self.backward(task, batches)
                if rows is not None:
                    take_gradient(self.model, rows[number])
        losses = self.processes.sum_losses(losses)
        self.processes.sum_gradients(parameters_of(self.model, optimizer))
        if rows is not None:
            self.processes.sum(rows)
            tasks = [task for task, _ in chosen]
            sound = bool(rows.sum().isfinite())  # or else there is nothing to combine: the update will be skipped
            combine = partial(self.hook.combine_gradients, tasks=tasks, gradients=rows, losses=losses)
            give_gradient(self.model, combine() if sound else rows.sum(0))
        return losses

    @property
    def combined(self) -> bool:
        """Whether somebody looks at the tasks' gradients apart: the default would sum, as `.grad` does by itself."""
        return any(not answer.trylast for answer in self.hook.combine_gradients.get_hookimpls())

    @torch.no_grad()
    def reevaluate(self, chosen: Chosen) -> dict[str, Tensor]:
        """By task, the clean loss of an update's batch at the present weights, under the dropout masks of the update."""
        device = next(self.model.parameters()).device
        found = {}
        for task, batches in chosen:
            total = torch.zeros((), device=device)
            for part, batch, counts in self.processes.own(batches):
                with self.streams.within(task.name, part):
                    _, _, loss = self.clean(task, batch.to(device))
                total = total + loss * (share(batch, batches) if counts else 0.0)
            found[task.name] = self.processes.sum(total)
        return found

    def backward(self, task: Task, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Add the gradient of a task's batch, one micro-batch after the other; each counts by its share."""
        device = next(self.model.parameters()).device
        totals: dict[str, Tensor] = {}
        for part, batch, counts in self.processes.own(batches):
            with self.streams.within(task.name, part):
                terms = self.losses(task, batch.to(device))
            weight = share(batch, batches) if counts else 0.0
            terms = {name: term * weight for name, term in terms.items()}
            torch.autograd.backward(torch.stack(list(terms.values())).sum())
            totals = {name: term.detach() + totals.get(name, 0) for name, term in terms.items()}
        return totals

    def losses(self, task: Task, batch: Batch) -> dict[str, Tensor]:
        """The clean loss under the name `task`, and every extra loss under its own."""
        embeddings, output, loss = self.clean(task, batch)
        losses = {"task": loss}
        for answer in self.hook.extra_losses(
            model=self.model,
            task=task,
            batch=batch,
            embeddings=embeddings,
            output=output,
            loss=loss,
            predict=self.predict_again(task, batch, embeddings, output),
            task_loss=lambda other: self.hook.task_loss(task=task, batch=batch, output=other),
        ):
            if taken := losses.keys() & answer.keys():
                raise PluginError(f"two plugins give a loss named '{min(taken)}'; each needs a name of its own.")
            losses |= answer
        return losses

    def clean(self, task: Task, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The clean pass: embeddings, output and loss."""
        hook, model = self.hook, self.model
        embeddings = hook.embed(model=model, batch=batch)
        with self.streams.seeded("dropout"), autocast(embeddings.device, self.precision):
            output = hook.predict(model=model, task=task, batch=batch, embeddings=embeddings)
        return embeddings, output, hook.task_loss(task=task, batch=batch, output=output)

    def predict_again(self, task: Task, batch: Batch, clean: Tensor, output: Tensor) -> Predict:
        """The `predict` that plugins are handed, of a clean pass from embeddings to output; see `spec.Predict`."""
        here = self.streams.place

        def predict(
            embeddings: Tensor,
            *,
            dropout: Literal["replay", "fresh", "off"] = "replay",
            model: MultitaskModel | None = None,
            radius: float | None = None,
        ) -> Tensor:
            asked = model or self.model
            if dropout not in ("replay", "fresh", "off"):
                raise PluginError(f"predict has no dropout='{dropout}'. Available: replay, fresh, off.")
            fine = radius is not None and radius < FINEST
            precision = torch.float32 if fine else self.precision
            if embeddings is clean and asked is self.model and dropout == "replay" and precision == self.precision:
                return output
            place = (*here, int(torch.randint(2**62, ()))) if dropout == "fresh" else here
            quiet = mode(asked, training=False) if dropout == "off" else nullcontext()
            carried = autocast(embeddings.device, precision)
            with self.streams.at(*place), self.streams.seeded("dropout"), quiet, carried:
                found: Tensor = self.hook.predict(model=asked, task=task, batch=batch, embeddings=embeddings)
            return found

        return predict


def share(batch: Batch, batches: Sequence[Batch]) -> float:
    """How much of a batch's predictions are in one of its micro-batches."""
    return batch.predictions / max(sum(each.predictions for each in batches), 1)


def parameters_of(model: MultitaskModel, optimizer: torch.optim.Optimizer | None) -> list[Tensor]:
    """The model's parameters, and those of plugins that only the optimizer knows; each once."""
    groups = optimizer.param_groups if optimizer else []
    others = [parameter for group in groups for parameter in group["params"]]
    return list(dict.fromkeys([*model.parameters(), *others]))
