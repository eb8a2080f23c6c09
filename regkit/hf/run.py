"""Run: what plugins do in one call of a Trainer's `train`, from the first hook to the last step."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from regkit.base.errors import ConfigError, EncoderError, RunError
from regkit.base.randomness import derive
from regkit.hf import refuse
from regkit.hf.batch import PaddedBatch, pack
from regkit.hf.defaults import TrainerDefaults
from regkit.hf.loss import OwnLoss, Part
from regkit.hf.model import NAME, TransformersModel, objective_of
from regkit.hf.streams import TrainerStreams
from regkit.hf.update import OwnLabels, Update
from regkit.hooks.compose import compose
from regkit.hooks.handed import Made
from regkit.hooks.spec import Losses
from regkit.runs import checkpoint
from regkit.runs.manifest import STATE
from regkit.tasks.task import FINETUNE, Stage, Task
from regkit.training.auto_weights import weigh
from regkit.training.state import State


class Run:
    """The plugins of a Trainer, attached to its present model.

    `make` is the Trainer's own way to make an optimizer.

    Raises ConfigError or PluginError for a composition, a setting or a model that cannot work.
    """

    def __init__(self, trainer: Any, given: Made, make: Callable[[], torch.optim.Optimizer]) -> None:
        refuse.check_model(trainer.model)
        args, model = trainer.args, trainer.model
        self.trainer = trainer
        self.plugins, auto = weigh(given.plugins, given.shares)
        size = args.train_batch_size * args.gradient_accumulation_steps
        self.task = Task(NAME, objective_of(model.config), {}, batch_size=size)
        self.stage = Stage(FINETUNE, [NAME], learning_rate=args.learning_rate, weight_decay=args.weight_decay)
        self.streams = TrainerStreams(args.seed, args.device)
        self.own = OwnLoss(trainer)
        self.defaults = TrainerDefaults(self.own, make)
        composition = compose(self.plugins, self.defaults, self.streams, given.stages)
        auto.owners = composition.owners
        composition.check_stages([FINETUNE])
        self.hook, self.model = composition.hook, TransformersModel(model, self.task)
        self.owners = composition.owners  # of the terms of the loss
        self.watch, self.told = composition.watch, 0  # sentences of it that were logged
        precision = torch.bfloat16 if trainer.accelerator.mixed_precision == "bf16" else torch.float32
        self.passes = OwnLabels(self.model, self.hook, self.streams, precision)
        self.state = State(self.model, self.hook, self.streams, self.plugins, composition.acts, entered=[FINETUNE])
        self.update: Update | None = None  # the one whose micro-batches are coming in
        self.norm = torch.zeros(())  # of the last update's gradient, before it was clipped
        self.checked = False  # on a first batch
        self.choosing = False  # whether plugins choose the weights that are scored and kept

    def begin(self) -> torch.optim.Optimizer:
        """Let plugins prepare the model, and make the optimizer."""
        with self.streams.at(FINETUNE):
            self.hook.prepare(model=self.model, stage=self.stage, tasks=[self.task])
            self.model.take_over()
            optimizer: torch.optim.Optimizer = self.hook.make_optimizer(model=self.model, stage=self.stage)
        self.choosing = True
        return optimizer

    def micro_batch(self, inputs: Any, items: Any, *, last: bool) -> Tensor:
        """Add the gradient of a micro-batch to that of the update: its share of the loss, detached.

        With the last one, plugins see the gradient, which is not clipped yet.
        """
        update = self.update or self._open()
        try:
            batch = pack(inputs, self._keys(update, len(inputs["input_ids"])))
        except (EncoderError, KeyError) as error:
            said = "the batch has no input_ids." if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"{type(self.trainer.model).__name__} cannot be used with plugins: {said}") from None
        if not self.checked:
            refuse.check_batch(self.model, self.task, batch, self.own, self.plugins)
            self.checked = True
        part = self._part(update, batch, items)
        loss = update.add(part)
        if last:
            with self.streams.at(*self._place):
                self.hook.before_step(model=self.model, optimizer=self.trainer.optimizer, recompute=update.recompute)
            if self.hook.clipped.get_hookimpls():
                self.norm = get_total_norm([each.grad for each in self.model.parameters() if each.grad is not None])
        return loss

    def clipped(self) -> None:
        """Let plugins change the gradient that the Trainer's optimizer is about to step with."""
        if self.hook.clipped.get_hookimpls():
            with self.streams.at(*self._place):
                self.hook.clipped(model=self.model, optimizer=self.trainer.optimizer, norm=self.norm)

    def stepped(self) -> Losses:
        """Tell plugins that the optimizer has made its step. Returns the losses of the update."""
        update, self.update = self.update, None
        if update is None:
            return {}
        step, total = self.trainer.state.global_step, self.trainer.state.max_steps
        with self.streams.at(*self._place):
            self.hook.after_step(
                model=self.model,
                step=step,
                total_steps=total,
                losses=update.losses,
                reevaluate=update.reevaluate,
            )
        self._tell_noticed()
        return update.losses

    def _tell_noticed(self) -> None:
        """Log, once, what was noticed of plugins and is no reason to stop."""
        for sentence in self.watch.said[self.told :]:
            logging.getLogger(__name__).warning(sentence)
        self.told = len(self.watch.said)

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Give the Trainer's model the weights that plugins want to be scored and kept, for the block."""
        found = self.state.evaluated_model() if self.choosing else self.model
        if found is self.model:
            yield
            return
        own = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(found.state_dict())
        try:
            yield
        finally:
            self.model.load_state_dict(own)

    def save(self, folder: Path) -> None:
        """Write the state of the plugins beside a Trainer's checkpoint, and the weights if others were saved."""
        captured = self.state.capture()
        kept = {name: value for name, value in captured.items() if name in ("plugins", "model")}
        checkpoint.save_training(folder, kept | {"names": list(self.plugins)})

    def load(self, folder: Path) -> None:
        """Put back what `save` wrote, now that plugins are prepared. Raises RunError if it is damaged."""
        saved = checkpoint.load_training(folder)
        if "model" in saved:
            self.model.load_state_dict(saved["model"])
        for name, value in saved["plugins"].items():
            self.plugins[name].load_state_dict(value)

    @property
    def _place(self) -> tuple[object, ...]:
        """The place of this update's random numbers."""
        return FINETUNE, self.trainer.state.global_step

    def _open(self) -> Update:
        """Begin an update."""
        total = self.trainer.state.max_steps
        with self.streams.at(*self._place):
            self.hook.choose_tasks(tasks=[self.task], step=self.trainer.state.global_step, total_steps=total)
        groups = self.trainer.optimizer.param_groups
        parameters = dict.fromkeys([*self.model.parameters(), *(each for group in groups for each in group["params"])])
        self.streams.clean.clear()
        backward = self.trainer.accelerator.backward
        self.update = Update(self.passes, self.task, self.defaults, backward, list(parameters), self.owners)
        return self.update

    def _keys(self, update: Update, count: int) -> Sequence[int]:
        """Derive a key for each example from its place in the update: no cut of that shows in the noise."""
        first = sum(len(part) for part in update.parts)
        return [derive(self.streams.seed, "examples", *self._place, first + row) for row in range(count)]

    def _part(self, update: Update, batch: PaddedBatch, items: Any) -> Part:
        place = (*self._place, NAME, len(update.parts))
        self.streams.clean[place] = None
        return Part(batch, place, items, self.trainer.current_gradient_accumulation_steps)


def check_names(folder: Path, plugins: Iterable[str]) -> None:
    """Raise RunError for a checkpoint of other plugins than these, or of none where there are some."""
    now = list(plugins)
    known = (folder / STATE[0]).exists()
    if now and not known:
        raise RunError(f"{folder} was saved without regkit's plugins, or with save_only_model: it cannot be resumed.")
    was = checkpoint.load_training(folder).get("names", []) if known else []
    if was != now:
        before, here = (", ".join(map(str, names)) or "none" for names in (was, now))
        raise RunError(f"{folder} was saved with the plugins {before}, and this Trainer has {here}; name the same.")


def remove_state(folder: Path) -> None:
    """Remove the state of plugins from a checkpoint that an earlier Trainer left in this place."""
    for name in STATE:
        (folder / name).unlink(missing_ok=True)
