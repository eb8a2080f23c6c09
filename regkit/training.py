"""Training: the loop that `regkit.hookspecs` draws, in the same words."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from regkit.batch import Batch
from regkit.data.order import Feed
from regkit.errors import ConfigError, PluginError
from regkit.evaluation import autocast, evaluate, mode
from regkit.hookspecs import Predict
from regkit.model import MultitaskModel
from regkit.randomness import Streams
from regkit.tasks import Stage, Task

Chosen = Sequence[tuple[Task, Sequence[Batch]]]
Losses = dict[str, dict[str, Tensor]]


@dataclass
class Position:
    """Where a run is: all that a checkpoint needs beside weights, optimizer and plugin state."""

    stage: int = 0
    step: int = 0  # updates done in the stage
    seen: dict[str, int] = field(default_factory=dict)  # batches that each task has given in the stage


@dataclass
class Trainer:
    """Trains a model as the plugins behind `hook` say."""

    model: MultitaskModel
    hook: Any  # pluggy's relay: one callable a hook
    streams: Streams
    budget: int = 16384  # most tokens in a micro-batch; how a batch is cut does not change the result
    precision: torch.dtype = torch.float32
    clip: float = 1.0  # largest norm of an update's gradient; 0 does not clip
    bucketing: bool = True  # texts of like length in one batch
    plugins: Mapping[str, Any] = field(default_factory=dict)  # by name; only their state is used
    position: Position = field(default_factory=Position)
    optimizer: torch.optim.Optimizer | None = None
    resumed: dict[str, Any] | None = None  # the optimizer's state at `position`, until the optimizer is built

    def train(self) -> None:
        """Run the stages, from `position` on."""
        for number, (stage, tasks) in enumerate(self.stages()):
            if number >= self.position.stage:
                if number > self.position.stage:
                    self.position = Position(stage=number)
                self.train_stage(stage, tasks)

    def train_stage(self, stage: Stage, tasks: Sequence[Task]) -> None:
        hook, model, streams, position = self.hook, self.model, self.streams, self.position
        self.unfreeze(stage, tasks)
        with streams.at(stage.name):
            hook.prepare(model=model, tasks=tasks)
            self.optimizer = optimizer = self.make_optimizer(stage)
            epoch_steps, total_steps = self.length(stage, tasks)
        feeds = {task.name: Feed(task, streams.seed, stage.name, bucketing=self.bucketing) for task in tasks}
        if position.step == 0:
            self.evaluate(stage, 0, tasks)
        for step in range(position.step, total_steps):
            with streams.at(stage.name, step), mode(model, training=True):
                chosen = []
                for task in hook.choose_tasks(tasks=tasks, step=step, total_steps=total_steps):
                    number = position.seen.get(task.name, 0)
                    position.seen[task.name] = number + 1
                    chosen.append((task, feeds[task.name].micro_batches(number, self.budget)))
                schedule(optimizer, stage, step, total_steps)
                losses = self.update(optimizer, chosen)
                position.step = step + 1
                hook.after_step(model=model, step=step, losses=losses)
            if position.step % epoch_steps == 0 or position.step == total_steps:
                self.evaluate(stage, position.step, tasks)

    def unfreeze(self, stage: Stage, tasks: Sequence[Task]) -> None:
        """Let gradients into the stage's trainable part; ConfigError where a task has none."""
        self.model.encoder.requires_grad_(stage.trainable == "all")
        for task in tasks:
            if stage.trainable == "heads" and not list(self.model.heads[task.name].parameters()):
                raise ConfigError(
                    f"task '{task.name}' has nothing to train while the encoder is frozen: a cosine has no weights. "
                    "Read its pairs as cross_encoder, or leave the task out."
                )

    def state_dict(self) -> dict[str, Any]:
        """What training needs to go on from here, beside the model's own state."""
        return {
            "position": asdict(self.position),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "plugins": {name: each.state_dict() for name, each in self.plugins.items() if hasattr(each, "state_dict")},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`: the next `train` continues at that very step."""
        self.position = Position(**state["position"])
        self.resumed = state["optimizer"]
        for name, value in state["plugins"].items():
            self.plugins[name].load_state_dict(value)

    def stages(self) -> list[tuple[Stage, list[Task]]]:
        """The stages of the run, each with its tasks."""
        tasks = [task for answer in self.hook.tasks() for task in answer]
        stages = [stage for answer in self.hook.stages(tasks=tasks) for stage in answer]
        return [(stage, [task for task in tasks if task.name in stage.tasks]) for stage in stages]

    def length(self, stage: Stage, tasks: Sequence[Task]) -> tuple[int, int]:
        """Updates in an epoch, and in the stage."""
        epoch_steps = self.hook.epoch_steps(tasks=tasks)
        return epoch_steps, stage.steps or stage.epochs * epoch_steps

    def update(self, optimizer: torch.optim.Optimizer, chosen: Chosen) -> Losses:
        """One optimizer update from one batch of each chosen task."""
        losses = self.gradients(chosen)
        self.hook.before_step(model=self.model, optimizer=optimizer, recompute=lambda: self.gradients(chosen))
        if self.clip:
            clip_grad_norm_(self.model.parameters(), self.clip)
        optimizer.step()
        return losses

    def gradients(self, chosen: Chosen) -> Losses:
        """Leave the update's gradient in `.grad`: each task's, and of several tasks the combined one."""
        self.model.zero_grad()
        losses, rows = {}, []
        combining = (
            len(chosen) > 1 and len(self.hook.combine_gradients.get_hookimpls()) > 1
        )  # more than the default's sum
        for task, batches in chosen:
            losses[task.name] = self.backward(task, batches)
            if combining:
                rows.append(take_gradient(self.model))
        if combining:
            give_gradient(self.model, self.hook.combine_gradients(gradients=torch.stack(rows)))
        return losses

    def backward(self, task: Task, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Add the gradient of a task's batch, one micro-batch after the other; each counts by its share of the examples."""
        device = next(self.model.parameters()).device
        examples = sum(map(len, batches))
        totals: dict[str, Tensor] = {}
        for part, batch in enumerate(batches):
            with self.streams.at(*self.streams.place, task.name, part), autocast(device, self.precision):
                terms = self.losses(task, batch.to(device))
            terms = {name: term * (len(batch) / examples) for name, term in terms.items()}
            torch.autograd.backward(torch.stack(list(terms.values())).sum())
            totals = {name: term.detach() + totals.get(name, 0) for name, term in terms.items()}
        return totals

    def losses(self, task: Task, batch: Batch) -> dict[str, Tensor]:
        """The clean loss under the name `task`, and every extra loss under its own."""
        hook, model = self.hook, self.model
        embeddings = hook.embed(model=model, batch=batch)
        with self.streams.seeded("dropout"):
            output = hook.predict(model=model, task=task, batch=batch, embeddings=embeddings)
        terms = {"task": hook.task_loss(task=task, batch=batch, output=output)}
        predict = self.again(task, batch)
        for answer in hook.extra_losses(
            model=model, task=task, batch=batch, embeddings=embeddings, output=output, predict=predict
        ):
            if taken := terms.keys() & answer.keys():
                raise PluginError(f"two plugins give a loss named '{min(taken)}'; each needs a name of its own.")
            terms |= answer
        return terms

    def again(self, task: Task, batch: Batch) -> Predict:
        """The `predict` that plugins are handed; see `regkit.hookspecs.Predict`."""
        clean = self.streams.place

        def predict(
            embeddings: Tensor,
            *,
            dropout: Literal["replay", "fresh", "off"] = "replay",
            model: MultitaskModel | None = None,
        ) -> Tensor:
            asked = model or self.model
            if dropout not in ("replay", "fresh", "off"):
                raise PluginError(f"predict has no dropout='{dropout}'. Available: replay, fresh, off.")
            place = (*clean, int(torch.randint(2**62, ()))) if dropout == "fresh" else clean
            quiet = mode(asked, training=False) if dropout == "off" else nullcontext()
            with self.streams.at(*place), self.streams.seeded("dropout"), quiet:
                output: Tensor = self.hook.predict(model=asked, task=task, batch=batch, embeddings=embeddings)
            return output

        return predict

    def make_optimizer(self, stage: Stage) -> torch.optim.Optimizer:
        """The stage's optimizer, with the peak of each group's learning rate noted, and the state it resumes from."""
        optimizer: torch.optim.Optimizer = self.hook.make_optimizer(model=self.model, stage=stage)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        if self.resumed is not None:
            optimizer.load_state_dict(self.resumed)
            self.resumed = None
        return optimizer

    def evaluate(self, stage: Stage, step: int, tasks: Sequence[Task]) -> None:
        scores = evaluate(self.model, tasks, "dev", budget=self.budget, precision=self.precision)
        self.hook.evaluated(stage=stage, step=step, scores=scores)


def schedule(optimizer: torch.optim.Optimizer, stage: Stage, step: int, total_steps: int) -> None:
    """Set the learning rate of this step: a straight line up over the warm-up, and a straight line down to 0."""
    warmup = stage.warmup * total_steps
    factor = min((step + 1) / max(warmup, 1), (total_steps - step) / max(total_steps - warmup, 1))
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * min(factor, 1.0)


def take_gradient(model: MultitaskModel) -> Tensor:
    """The gradient of the shared parameters as one row, taken out of `.grad`; 0 where a parameter has none."""
    row = torch.cat(
        [
            (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten()
            for parameter in model.shared_parameters()
        ]
    )
    for parameter in model.shared_parameters():
        parameter.grad = None
    return row


def give_gradient(model: MultitaskModel, row: Tensor) -> None:
    """The opposite of `take_gradient`."""
    parameters = list(model.shared_parameters())
    for parameter, part in zip(parameters, torch.split(row, [p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
