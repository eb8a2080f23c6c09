"""Training: the loop that `regkit.hooks.spec` draws, in the same words. Its inner half is `regkit.training.update`."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_

from regkit.base.errors import ConfigError, LostError, RunError
from regkit.base.failures import gone, ran_out, where
from regkit.data.order import Feed
from regkit.distributed.processes import ALONE, LOST
from regkit.distributed.sharding import agreed, total_norm, whole
from regkit.model import MultitaskModel
from regkit.model.modes import mode
from regkit.tasks.task import Stage, Task
from regkit.training.estimate import budget
from regkit.training.evaluation import evaluate, nothing, pieces
from regkit.training.fit import Retry, SmallerError, halved
from regkit.training.state import Position, put_back, versions
from regkit.training.update import Chosen, Gradients, Losses, parameters_of


@dataclass
class Trainer:
    """Trains the model of `gradients` as the plugins behind its `hook` say."""

    gradients: Gradients
    tasks: Sequence[Task]  # of all stages
    budget: int = 16384  # most tokens in a micro-batch, at first; how a batch is cut does not change the result
    memory: int | None = None  # most bytes to take; at the start of a stage it makes a smaller budget
    clip: float = 1.0  # largest norm of an update's gradient; 0 does not clip
    bucketing: bool = True  # texts of like length in one batch
    max_skipped: int = 5  # updates in a row that may be skipped, for numbers that are not finite, before training stops
    plugins: Mapping[str, Any] = field(default_factory=dict)  # by name; only their state is used
    acts: Callable[[str, str], bool] = lambda plugin, stage: True  # whether a plugin acts in a stage
    between: Callable[[], None] = nothing  # called between two passes of an evaluation, which an error ends
    position: Position = field(default_factory=Position)
    optimizer: torch.optim.Optimizer | None = None
    resumed: Mapping[str, Any] | None = None  # the state at `position`, until the stage is prepared for it
    settled: list[int] | None = None  # versions of the weights when all parts of the run last stood at `position`

    def __post_init__(self) -> None:
        self.model, self.hook, self.streams = self.gradients.model, self.gradients.hook, self.gradients.streams
        self.processes = self.gradients.processes

    def train(self) -> None:
        """Run the stages, from `position` on. RunError where memory runs out and smaller micro-batches are no remedy."""
        try:
            self.train_stages()
        except Exception as error:
            if gone(error):
                raise LostError(f"{LOST}.") from error
            if not ran_out(error):
                raise
            raise RunError(
                f"memory ran out after {self.position.step} steps{where(error)}, where smaller micro-batches "
                "are no remedy; take a smaller encoder, or leave out plugins that keep a copy of it."
            ) from error

    def train_stages(self) -> None:
        """Run the stages, from `position` on."""
        for number, (stage, tasks) in enumerate(self.stages()):
            if number < self.position.stage:
                with self.streams.at(stage.name):
                    self.prepare(stage, tasks)  # as in the run that was stopped: plugins may have swapped modules
            if number > self.position.stage:
                self.position, self.settled = Position(stage=number), None
            if number == self.position.stage:
                self.train_stage(stage, tasks)

    @property
    def fitting(self) -> int:
        """Most tokens in a micro-batch, by what is known now."""
        return min(self.budget, self.position.budget or self.budget)

    def train_stage(self, stage: Stage, tasks: Sequence[Task]) -> None:
        """Run one stage, from `position` on."""
        hook, model, position = self.hook, self.model, self.position
        with self.streams.at(stage.name):
            self.prepare(stage, tasks)
            self.optimizer = self.make_optimizer(stage)
            self.restore()
            epoch_steps, total_steps = self.length(stage, tasks)
            if self.memory and position.budget is None:
                position.budget = self.estimate(tasks, self.optimizer)
        feeds = {task.name: Feed(task, self.streams.seed, stage.name, bucketing=self.bucketing) for task in tasks}
        retry = Retry()
        while True:
            self.settle()
            step, complete = position.step, position.step >= total_steps
            if position.evaluated != step and (complete or step % epoch_steps == 0):
                with retry:
                    self.evaluate(stage, tasks)
                continue
            if complete or position.ended:
                return
            with retry, self.streams.at(stage.name, step), mode(model, training=True):
                asked = hook.choose_tasks(tasks=tasks, step=step, total_steps=total_steps)
                numbers = {task.name: position.seen.get(task.name, 0) for task in asked}
                cut = partial(Feed.micro_batches, budget=self.fitting, shares=self.processes.count)
                chosen = [(task, cut(feeds[task.name], numbers[task.name])) for task in asked]
                schedule(self.optimizer, stage, step, total_steps)
                losses = self.update(self.optimizer, chosen)
                position.step, position.skipped = step + 1, 0 if losses else position.skipped + 1
                position.seen |= {name: number + 1 for name, number in numbers.items()}
                if losses:
                    again = partial(self.gradients.reevaluate, chosen)
                    with agreed():
                        hook.after_step(
                            model=model, step=step, total_steps=total_steps, losses=losses, reevaluate=again
                        )
                else:
                    self.skip(self.optimizer, chosen)

    def estimate(self, tasks: Sequence[Task], optimizer: torch.optim.Optimizer) -> int:
        """Tokens of a micro-batch with which the stage stays within `memory`, as far as can be told beforehand."""
        alone = replace(self.gradients, processes=ALONE)
        found = budget(alone, optimizer, tasks, self.memory or 0, self.plugins)
        return min(self.budget, -self.processes.largest(-found)[0])  # of several processes, that with the least room

    def update(self, optimizer: torch.optim.Optimizer, chosen: Chosen) -> Losses:
        """One optimizer update from one batch of each chosen task; none, and no losses, where a number is not finite."""
        compute = partial(self.gradients.compute, optimizer, chosen)
        with self.halving(lambda: [batch.example_lengths for _, batches in chosen for batch in batches]):
            losses = compute()
            with agreed():
                self.hook.before_step(model=self.model, optimizer=optimizer, recompute=compute)
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = total_norm(parameter.grad for parameter in parameters)
        if not finite(optimizer, norm, losses):
            return {}
        self.settled = None  # a fused optimizer leaves no mark on the weights' versions
        with agreed():
            if self.clip:
                clip_grads_with_norm_(parameters, self.clip, norm)
            optimizer.step()
        return losses

    def skip(self, optimizer: torch.optim.Optimizer, chosen: Chosen) -> None:
        """Tell of an update that was not done; RunError after too many in a row."""
        self.settle()
        compute = partial(self.gradients.compute, optimizer, chosen)
        self.hook.skipped(model=self.model, step=self.position.step - 1, recompute=compute)
        if self.position.skipped >= self.max_skipped:
            names = " and ".join(f"'{task.name}'" for task, _ in chosen)
            raise RunError(
                f"no finite loss and gradient in {self.position.skipped} steps in a row, "
                f"the last of them step {self.position.step} with task {names}; try a lower learning rate."
            )

    def evaluate(self, stage: Stage, tasks: Sequence[Task]) -> None:
        """Score the dev splits, and tell."""
        position, precision, processes = self.position, self.gradients.precision, self.processes
        with self.streams.at(stage.name, position.step, "evaluated"):
            processes.check_alike(parameters_of(self.model, self.optimizer))
            model, budget = self.scored(), self.fitting
            with self.halving(lambda: pieces(tasks, "dev", budget)):
                scores = evaluate(
                    model, tasks, "dev", budget=budget, precision=precision, processes=processes, between=self.between
                )
            self.settled = None
            position.evaluated = position.step
            self.hook.evaluated(stage=stage, step=position.step, scores=scores)
            position.ended = self.processes.any(position.ended)  # which one of them may have decided
            self.settle()

    @contextmanager
    def halving(self, micro_batches: Callable[[], Iterable[Sequence[int] | np.ndarray]]) -> Iterator[None]:
        """Where memory runs out inside, halve `fitting`, and ask by SmallerError that the same be done again.

        `micro_batches` gives the lengths of the examples of each. RunError where none has several.
        """
        try:
            yield
        except Exception as error:
            if not ran_out(error):
                raise
            if self.processes.sharded:
                raise RunError(
                    f"memory ran out after {self.position.step} steps{where(error)}, with micro-batches of at most "
                    f"{self.fitting} tokens; go on with fewer of them: --micro-batch-tokens {self.fitting // 2}."
                ) from error
            self.position.budget = halved(micro_batches(), f"after {self.position.step} steps{where(error)}")
            raise SmallerError from error

    def scored(self) -> MultitaskModel:
        """The model that is evaluated and kept: the one in training, unless a plugin decides otherwise."""
        place = self.streams.place or (self.stages()[self.position.stage][0].name,)
        with self.streams.at(*place):
            found: MultitaskModel = self.hook.model_to_evaluate(model=self.model)
        return found

    def begun(self) -> Mapping[str, Any]:
        """The plugins that act in this stage, or have acted in an earlier one: the others hold nothing yet."""
        stages = [stage.name for stage, _ in self.stages()[: self.position.stage + 1]]
        return {name: each for name, each in self.plugins.items() if any(self.acts(name, stage) for stage in stages)}

    def stages(self) -> list[tuple[Stage, list[Task]]]:
        """The stages of the run, each with its tasks."""
        tasks = self.tasks
        stages = [stage for answer in self.hook.stages(tasks=tasks) for stage in answer]
        for stage in stages:
            if not re.fullmatch(r"[\w-]+", stage.name):  # it is part of the names of checkpoints
                raise ConfigError(f"a stage cannot be called '{stage.name}'; its name is letters, digits, _ and -.")
        return [(stage, [task for task in tasks if task.name in stage.tasks]) for stage in stages]

    def length(self, stage: Stage, tasks: Sequence[Task]) -> tuple[int, int]:
        """Updates in an epoch, and in the stage."""
        for task in tasks:
            if "train" not in task.splits or not len(task.splits["train"]):
                raise ConfigError(f"task '{task.name}' has no examples to train on.")
        with self.streams.at(stage.name):
            epoch_steps = self.hook.epoch_steps(tasks=tasks)
        return epoch_steps, stage.steps or stage.epochs * epoch_steps

    def first_epoch(self, stage: Stage, tasks: Sequence[Task]) -> list[list[str]]:
        """The names of the tasks of each step of the first epoch, or of the stage where that is shorter."""
        epoch_steps, total_steps = self.length(stage, tasks)
        steps = []
        for step in range(min(epoch_steps, total_steps)):
            with self.streams.at(stage.name, step):
                chosen = self.hook.choose_tasks(tasks=tasks, step=step, total_steps=total_steps)
                steps.append([task.name for task in chosen])
        return steps

    def prepare(self, stage: Stage, tasks: Sequence[Task]) -> None:
        """Let gradients into the stage's trainable part, ConfigError where a task has none, and tell."""
        self.model.encoder.requires_grad_(stage.trainable == "all")
        for task in tasks:
            if stage.trainable == "heads" and not list(self.model.heads[task.name].parameters()):
                raise ConfigError(
                    f"task '{task.name}' has nothing to train while the encoder is frozen: a cosine has no weights. "
                    "Read its pairs as cross_encoder, or leave the task out."
                )
        self.hook.prepare(model=self.model, stage=stage, tasks=tasks)

    def make_optimizer(self, stage: Stage) -> torch.optim.Optimizer:
        """The stage's optimizer, with the peak of each group's learning rate noted."""
        optimizer: torch.optim.Optimizer = self.hook.make_optimizer(model=self.model, stage=stage)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def settle(self) -> None:
        """Note that weights, optimizer and plugins all stand at `position`."""
        self.settled = versions(self.model)

    def at_rest(self) -> bool:
        """Whether `state_dict` is that of a moment between two updates, even where an error broke off what followed it."""
        return self.settled == versions(self.model)

    def state_dict(self) -> dict[str, Any]:
        """What training needs to go on, beside the weights of the model that is `scored`; in parts where they are."""
        state = {
            "position": asdict(self.position),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "plugins": {name: each.state_dict() for name, each in self.begun().items() if hasattr(each, "state_dict")},
        }
        return state if self.scored() is self.model else state | {"model": self.model.state_dict()}

    def snapshot(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """The weights of the model that is `scored` and the `state_dict`, whole, as the first process writes them.

        All processes have to be here, where weights are in parts.
        """
        weights, state = self.scored().state_dict(), self.state_dict()
        if not self.processes.sharded:
            return weights, state
        keep = Tensor.cpu if self.processes.first else lambda tensor: None  # one whole tensor at a time on the device
        return whole(weights, keep), whole(state, keep)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, with the model's weights loaded: the next `train` continues at that very step."""
        self.position = Position(**state["position"])
        weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.resumed = {"model": weights, **state}

    def restore(self) -> None:
        """Put back what `load_state_dict` was given, now that plugins are prepared and the optimizer is built."""
        if self.resumed is not None and self.optimizer is not None:
            put_back(self.resumed, self.model, self.optimizer, self.plugins, in_parts=self.processes.sharded)
            self.resumed = None


def schedule(optimizer: torch.optim.Optimizer, stage: Stage, step: int, total_steps: int) -> None:
    """Set the learning rate of this step: a straight line up over the warm-up, and a straight line down to 0."""
    warmup = stage.warmup * total_steps
    factor = min((step + 1) / max(warmup, 1), (total_steps - step) / max(total_steps - warmup, 1))
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * min(factor, 1.0)


def finite(optimizer: torch.optim.Optimizer, norm: Tensor, losses: Losses) -> bool:
    """Whether the gradient, of this norm, and all losses are finite; note: this waits for the GPU."""
    sizes = [norm, *(loss for terms in losses.values() for loss in terms.values())]
    for group in optimizer.param_groups:  # scalars that a plugin learns are not in the model's norm
        sizes += [each.grad for each in group["params"] if each.grad is not None and not each.dim()]
    return bool(torch.stack([size.float() for size in sizes]).isfinite().all())
