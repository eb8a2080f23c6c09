"""Trainer: a Trainer of transformers in which regkit's plugins act.

They act on any model of transformers that gives classes, several labels or a score for a text. Everything else - data,
optimizer, schedule, evaluation, checkpoints - is the Trainer's own, and without a plugin that does something so are loss and
weights, bit for bit.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regkit.base.errors import ConfigError
from regkit.hf import refuse
from regkit.hf.restore import restore
from regkit.hf.run import Run, check_names, remove_state
from regkit.hooks.answers import TASK
from regkit.hooks.handed import make

try:
    import accelerate  # noqa: F401  # a Trainer needs it, and says so only when it is made
    from transformers import Trainer, TrainerCallback
except ImportError:
    raise ConfigError("regkit.hf needs transformers and accelerate: pip install 'regkit[transformers]'.") from None


class RegularizedTrainer(Trainer):  # type: ignore[misc]  # mypy does not read transformers
    """A `transformers.Trainer` with regkit's plugins; it takes what a Trainer takes, and `plugins`.

    plugins: names with options such as "smart:weight=3", classes, and objects such as RDrop(weight=2). The first named is
        the outermost wrapper.

    Raises PluginError for a plugin that is unknown or cannot act here, and ConfigError for settings or a model that plugins
    cannot work with.
    """

    def __init__(self, *given: Any, plugins: Iterable[Any] = (), **options: Any) -> None:
        self._given = make(plugins)
        refuse.check_plugins(self._given.plugins)
        self._run: Run | None = None
        self._terms: dict[str, list[Tensor]] = {}  # of the loss, since they were last logged
        super().__init__(*given, **options)
        if self._given.plugins:
            refuse.check_settings(self, self._given.plugins)
            self._run = self._new_run()
            self.add_callback(AroundStep(self))

    def _new_run(self) -> Run:
        return Run(self, self._given, super().create_optimizer)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Let plugins prepare the model, and make the optimizer.

        The Trainer calls this when it begins to train.
        """
        optimizer: torch.optim.Optimizer
        if not self._given.plugins:
            optimizer = super().create_optimizer() if model is None else super().create_optimizer(model)
            return optimizer
        self._run = self._new_run()
        if refuse.change_optimizer(self._given.plugins):
            self.optimizer = None  # one of an earlier call would be changed twice
        self.optimizer = optimizer = self._run.begin()
        return optimizer

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Add the gradient of a micro-batch, with the terms of the plugins. Returns its share of the loss."""
        if self._run is None:
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
            return loss
        model.train()
        if callable(to_training := getattr(self.optimizer, "train", None)):  # of a schedule-free optimizer
            to_training()
        inputs = self._prepare_inputs(inputs)
        return self._run.micro_batch(inputs, num_items_in_batch, last=self.accelerator.sync_gradients)

    def clipped(self) -> None:
        """Tell plugins that the gradient is clipped, and the optimizer about to make its step."""
        if self._run:
            self._run.clipped()

    def stepped(self) -> None:
        """Tell plugins that the optimizer has made its step, and note the terms of the loss."""
        if self._run:
            for terms in self._run.stepped().values():
                for name, term in terms.items():
                    self._terms.setdefault(name, []).append(term)

    def log(self, logs: dict[str, float], *given: Any, **options: Any) -> None:
        """Log what a Trainer logs; beside the loss, the mean of each of its terms, such as `loss/smart`."""
        if "loss" in logs and self._terms.keys() - {TASK}:
            logs |= {f"loss/{name}": float(torch.stack(terms).mean()) for name, terms in self._terms.items()}
        if "loss" in logs:
            self._terms = {}
        super().log(logs, *given, **options)

    def evaluation_loop(self, *given: Any, **options: Any) -> Any:
        """Score the model that plugins want to be scored: an average of the weights, or the one in training."""
        if self._run is None:
            return super().evaluation_loop(*given, **options)
        with self._run.evaluated():
            return super().evaluation_loop(*given, **options)

    def save_model(self, *given: Any, **options: Any) -> None:
        """Save the model that is scored."""
        if self._run is None:
            super().save_model(*given, **options)
            return
        with self._run.evaluated():
            super().save_model(*given, **options)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if not self.args.should_save:
            return
        if self._run:
            self._run.save(Path(output_dir))
        else:
            remove_state(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        check_names(Path(checkpoint), self._run.plugins if self._run else {})
        if self._run:
            self._load_from_checkpoint(
                checkpoint
            )  # once more: plugins may have changed the weights while they prepared
            self._run.load(Path(checkpoint))

    def _load_from_checkpoint(self, checkpoint: str, model: nn.Module | None = None) -> None:
        if not restore(self.model if model is None else model, Path(checkpoint)):
            super()._load_from_checkpoint(checkpoint, model)

    def _load_best_model(self) -> None:
        if not restore(self.model, Path(self.state.best_model_checkpoint)):
            super()._load_best_model()
        if self._run:
            self._run.choosing = False  # the model now is the one that was scored best


class AroundStep(TrainerCallback):  # type: ignore[misc]  # mypy does not read transformers
    """Tells a trainer that its optimizer is about to make a step, and that it has made one."""

    def __init__(self, trainer: RegularizedTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Pass it on."""
        self.trainer.clipped()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Pass it on."""
        self.trainer.stepped()
