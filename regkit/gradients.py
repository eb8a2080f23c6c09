"""Gradients: the inner half of the loop - forward passes, losses and backward passes of one update."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from regkit.batch import Batch
from regkit.errors import PluginError
from regkit.evaluation import autocast, mode
from regkit.hookspecs import Predict
from regkit.memory import ran_out
from regkit.model import MultitaskModel
from regkit.processes import Processes
from regkit.randomness import Streams
from regkit.sharding import is_part, own_part, part_of, total_norm
from regkit.tasks import Task

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
        """The `predict` that plugins are handed, of a clean pass from embeddings to output; see `hookspecs.Predict`."""
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


def gradient_norm(term: Tensor, parameters: Sequence[Tensor], others: Sequence[Tensor] = ()) -> Tensor:
    """The L2 norm of a loss's gradient, all parameters together; the graph stays, and so does what is in `.grad`.

    `others` are leaves of the graph whose gradient does not count.

    Where weights are in parts, that of the sum over all processes, which have to be here: it is FSDP that puts together the
    weights and the gradients, into `.grad` alone.
    """
    if not any(map(is_part, parameters)):
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        return total_norm(gradients)
    before = [leaf.grad for leaf in (*parameters, *others)]
    for leaf in (*parameters, *others):
        leaf.grad = None
    torch.autograd.backward(term, retain_graph=True)
    norm = total_norm(parameter.grad for parameter in parameters)
    for leaf, gradient in zip((*parameters, *others), before, strict=True):
        leaf.grad = gradient
    return norm


def room_for_gradients(model: MultitaskModel, rows: int) -> Tensor:
    """`[rows, parameters]`, not filled yet, for the gradients of the shared parameters."""
    return next(model.parameters()).new_empty(rows, sum(parameter.numel() for parameter in model.shared_parameters()))


def take_gradient(model: MultitaskModel, row: Tensor) -> None:
    """Move the gradient of the shared parameters out of `.grad` into a row; 0 where a parameter has none.

    Of a gradient in parts each process moves its own, and the rows of all of them add up to the whole.
    """
    parameters = list(model.shared_parameters())
    for parameter, part in zip(parameters, torch.split(row, [p.numel() for p in parameters]), strict=True):
        if parameter.grad is None:
            part.zero_()
        elif is_part(parameter.grad):
            own_part(part.zero_().view(parameter.shape), parameter).copy_(parameter.grad.to_local())  # type: ignore[attr-defined]
        else:
            part.copy_(parameter.grad.flatten())
        parameter.grad = None


def give_gradient(model: MultitaskModel, row: Tensor) -> None:
    """The opposite of `take_gradient`."""
    parameters = list(model.shared_parameters())
    for parameter, part in zip(parameters, torch.split(row, [p.numel() for p in parameters]), strict=True):
        gradient = part.view(parameter.shape)
        parameter.grad = part_of(gradient, parameter) if is_part(parameter) else gradient
