"""Passes: run the forward passes of one micro-batch and compute the terms of its loss."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from regkit.base.errors import PluginError
from regkit.base.randomness import Streams
from regkit.hooks.answers import TASK
from regkit.hooks.spec import Predict, TaskLoss
from regkit.model import MultitaskModel
from regkit.model.modes import mode
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.training.arithmetic import Arithmetic, Multiplier, arithmetic_of, finest


def terms(loss: Tensor, answers: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Name the terms of a loss: the clean one is `task`, the others are named by their plugins."""
    return {TASK: loss, **{name: term for answer in answers for name, term in answer.items()}}


class Clean(NamedTuple):
    """The clean pass of a micro-batch: what every hook after it is given."""

    batch: Batch  # as augmented
    embeddings: Tensor  # [tokens, width]
    vectors: Tensor  # [texts, width]
    output: Tensor
    loss: Tensor  # of the task alone: a scalar


@dataclass
class Passes:
    """Runs the model as the plugins behind `hook` say. Only forward passes are in `precision`."""

    model: MultitaskModel
    hook: Any  # pluggy's relay: one callable a hook
    streams: Streams
    precision: torch.dtype = torch.float32
    plugins: Sequence[str] = ()  # those that take part in a step
    multiplier: Multiplier = field(default_factory=Multiplier)
    radii: Callable[[], Sequence[float]] = tuple  # the perturbations of the plugins that act now, see `traits.radius`

    def losses(self, task: Task, batch: Batch) -> dict[str, Tensor]:
        """Compute every term of the loss of a micro-batch, by name."""
        clean = self.clean(task, batch)
        answers = self.hook.extra_losses(
            model=self.model,
            task=task,
            **clean._asdict(),
            predict=self.predict_again(task, clean.batch, clean.embeddings, clean.output),
            task_loss=self.task_loss_of(task, clean.batch),
        )
        return terms(clean.loss, answers)

    def clean(self, task: Task, batch: Batch) -> Clean:
        """Make the clean pass, from the augmentation of the batch to the loss."""
        batch = self.hook.augment(task=task, batch=batch)
        embeddings = self.hook.embed(model=self.model, batch=batch)
        arithmetic = self.arithmetic(embeddings.device)
        with self.streams.seeded("dropout"), self.multiplier.computing(arithmetic, embeddings.device):
            vectors, output = self.forward(self.model, task, batch, embeddings)
        self.multiplier.backward_too(arithmetic, output, embeddings)
        return Clean(batch, embeddings, vectors, output, self.hook.task_loss(task=task, batch=batch, output=output))

    def arithmetic(self, device: torch.device) -> Arithmetic:
        """Choose how to compute the clean pass: as finely as plugins need it that compare with it.

        So it serves all of them, where one in bf16 would have to be made again.
        """
        radii = self.radii() if self.precision == torch.bfloat16 else ()
        return finest(arithmetic_of(radius, self.precision, device) for radius in (None, *radii))

    def forward(self, model: MultitaskModel, task: Task, batch: Batch, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the text vectors and the output of a model from word embeddings, `[tokens, width]`."""
        vectors = self.hook.encode(model=model, task=task, batch=batch, embeddings=embeddings)
        return vectors, self.hook.predict(model=model, task=task, batch=batch, vectors=vectors)

    def task_loss_of(self, task: Task, batch: Batch) -> TaskLoss:
        """Make the `task_loss` that plugins are handed, for a batch; see `spec.TaskLoss`."""

        def task_loss(output: Tensor, targets: Tensor | None = None) -> Tensor:
            asked = batch if targets is None else replace(batch, labels=targets)
            found: Tensor = self.hook.task_loss(task=task, batch=asked, output=output)
            return found

        return task_loss

    def predict_again(self, task: Task, batch: Batch, clean: Tensor, output: Tensor) -> Predict:
        """Make the `predict` that plugins are handed, for a clean pass; see `spec.Predict`."""
        here, usual = self.streams.place, self.arithmetic(clean.device)

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
            chosen = arithmetic_of(radius, self.precision, embeddings.device)
            if embeddings is clean and asked is self.model and dropout == "replay" and finest((chosen, usual)) == usual:
                return output
            chosen = chosen if radius is None else finest((chosen, usual))  # it is compared with the clean pass
            # The generator is named so that this draw is not taken for one of the plugin's own.
            place = (
                (*here, int(torch.randint(2**62, (), generator=torch.default_generator)))
                if dropout == "fresh"
                else here
            )
            quiet = mode(asked, training=False) if dropout == "off" else nullcontext()
            computing = self.multiplier.computing(chosen, embeddings.device)
            with self.streams.at(*place), self.streams.seeded("dropout"), quiet, computing:
                found = self.forward(asked, task, batch, embeddings)[1]
            self.multiplier.backward_too(chosen, found, embeddings)
            return found

        return predict
