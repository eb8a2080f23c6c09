"""Update: the micro-batches whose gradients a Trainer adds up, and the same gradient computed again."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from regkit.base.errors import PluginError
from regkit.hf.defaults import TrainerDefaults
from regkit.hf.loss import Part
from regkit.hooks.answers import TASK
from regkit.hooks.spec import Losses, TaskLoss
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.training.passes import Passes

Terms = Mapping[str, Tensor]


class OwnLabels(Passes):
    """Passes whose losses a Trainer computes, from the labels that it has itself."""

    def task_loss_of(self, task: Task, batch: Batch) -> TaskLoss:
        """Make the `task_loss` that plugins are handed; it raises PluginError for other labels."""
        known = super().task_loss_of(task, batch)

        def task_loss(output: Tensor, targets: Tensor | None = None) -> Tensor:
            if targets is not None:
                raise PluginError(
                    "a plugin asks for the loss of other labels, and a Trainer computes losses from its own labels alone; "
                    "leave the plugin out, or train with regkit."
                )
            return known(output)

        return task_loss


@dataclass
class Update:
    """One optimizer update, from the first of its micro-batches to the step."""

    passes: Passes
    task: Task
    defaults: TrainerDefaults
    backward: Callable[[Tensor], None]  # the Trainer's
    parameters: Sequence[Tensor]  # all that are trained, those of plugins included
    owners: Mapping[str, str]  # of the terms of the loss: the plugin's name
    parts: list[Part] = field(default_factory=list)
    found: list[Terms] = field(default_factory=list)  # of each part: the means over its examples, detached

    def __post_init__(self) -> None:
        self.clear()

    def add(self, part: Part) -> Tensor:
        """Add the gradient of one more micro-batch; returns its share of the update's loss, detached."""
        self.parts.append(part)
        whole, terms = self._add(part)
        self.found.append(terms)
        return whole

    def recompute(self) -> None:
        """Compute the gradient anew at the present weights: all micro-batches, with the same random numbers."""
        self.clear()
        for part in self.parts:
            self._add(part)

    def clear(self) -> None:
        """Forget the gradient, also that of parameters that only the optimizer knows."""
        for parameter in self.parameters:
            parameter.grad = None

    @property
    def losses(self) -> Losses:
        """The losses of the update by term: means over its examples."""
        return {self.task.name: self._mean(self.found)}

    @torch.no_grad()
    def reevaluate(self) -> Terms:
        """Compute the clean loss of the update's batch at the present weights, under the same dropout masks."""
        found = []
        for part in self.parts:
            with self.passes.streams.at(*part.place):
                loss = self.passes.clean(self.task, part.batch).loss
            found.append({self.task.name: loss})
        return self._mean(found)

    def _add(self, part: Part) -> tuple[Tensor, Terms]:
        self.defaults.part = part
        with self.passes.streams.at(*part.place):
            terms = self.passes.losses(self.task, part.batch)
        self._check_finite(terms)
        share = self._share(part, terms)
        if not share.requires_grad:
            raise PluginError(
                "the loss has no gradient: a hook that answers or wraps embed, encode, predict or task_loss detached it from "
                "the weights."
            )
        self.backward(share)
        part.clean = None  # to free its graph
        return share.detach(), {name: term.detach() for name, term in terms.items()}

    def _check_finite(self, terms: Terms) -> None:
        """Raise PluginError for a term that is not finite where the Trainer's own loss is; note: this waits for the GPU.

        A Trainer skips no step, so all weights would be lost.
        """
        sizes = dict(zip(terms, torch.stack([term.detach() for term in terms.values()]).tolist(), strict=True))
        wrong = next((name for name, size in sizes.items() if not math.isfinite(size)), None)
        if wrong is not None and math.isfinite(sizes[TASK]):
            raise PluginError(
                f"the term '{wrong}' of plugin '{self.owners.get(wrong)}' is {sizes[wrong]}, and after the step all weights "
                "would be; mend the plugin, or leave it out."
            )

    def _share(self, part: Part, terms: Terms) -> Tensor:
        """Compute what a micro-batch adds to the update's loss.

        Every term counts as the Trainer's own loss does.

        That loss is taken as the Trainer scales it, bit for bit, unless a plugin changed it.
        """
        weight, own = self.defaults.own.weight(part), part.clean
        untouched = own is not None and terms[TASK] is own.mean
        share = own.share if own is not None and untouched else terms[TASK] * weight
        for name, term in terms.items():
            if name != TASK:
                share = share + term * weight
        return share

    def _mean(self, found: Sequence[Terms]) -> Terms:
        """Compute the mean over the examples of all micro-batches, of each term."""
        sizes, totals = [len(part) for part in self.parts], defaultdict[str, list[Tensor]](list)
        for size, terms in zip(sizes, found, strict=True):
            for name, term in terms.items():
                totals[name].append(term * (size / sum(sizes)))
        return {name: torch.stack(values).sum() for name, values in totals.items()}
