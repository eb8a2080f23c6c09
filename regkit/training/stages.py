"""Stages: begin a stage - collect it, measure its length, prepare the model, make the optimizer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from regkit.base.bounds import SLOWEST
from regkit.base.errors import ConfigError, PluginError, nearest, short
from regkit.base.randomness import Streams
from regkit.data.order import Feed
from regkit.model import MultitaskModel
from regkit.tasks.task import Stage, Task
from regkit.training.state import Length, State


@dataclass(frozen=True)
class Span:
    """A stage as it runs."""

    stage: Stage
    tasks: Sequence[Task]
    feeds: Mapping[str, Feed]  # each task's batches, by name
    length: Length
    optimizer: torch.optim.Optimizer

    def feed(self, task: Task) -> Feed:
        """Look up the batches of a task. Raises PluginError if a scheduler chose one of another stage."""
        if task.name not in self.feeds:
            raise PluginError(
                f"choose_tasks gives task '{task.name}' in stage '{self.stage.name}'. {nearest(task.name, self.feeds)}"
            )
        return self.feeds[task.name]


def collect_stages(hook: Any, tasks: Sequence[Task]) -> list[tuple[Stage, list[Task]]]:
    """Collect the stages of the run, each with its tasks.

    Raises ConfigError for one that cannot be trained.
    """
    stages = [stage for answer in hook.stages(tasks=tasks) for stage in answer]
    names = [task.name for task in tasks]
    for number, stage in enumerate(stages):
        if said := _wrong(stage, names):
            raise ConfigError(f"stage '{short(stage.name)}': {said}")
        if stage.name in [other.name for other in stages[:number]]:
            raise ConfigError(f"two stages are called '{stage.name}'; choose another name for one of them.")
    return [(stage, [task for task in tasks if task.name in stage.tasks]) for stage in stages]


def _wrong(stage: Stage, names: Sequence[str]) -> str:
    """Say what is wrong with a stage that a plugin gives, and what is right; nothing if it can be trained."""
    if not (isinstance(stage.name, str) and re.fullmatch(r"[\w-]+", stage.name)):
        return "its name is letters, digits, _ and -."  # it is part of the names of checkpoints
    if isinstance(stage.tasks, str) or not stage.tasks:
        return f"its tasks are a list of names, at least one. {nearest('', names)}"
    if unknown := [name for name in stage.tasks if name not in names]:
        return f"there is no task {short(repr(unknown[0]))}. {nearest(str(unknown[0]), names)}"
    for name, least, most in BOUNDS:
        value = getattr(stage, name)
        if not (value is None and name == "steps") and not (isinstance(value, int | float) and least <= value < most):
            return f"{name} is {short(repr(value))}; it needs a number from {least:g} to below {most:g}."
    return (
        ""
        if stage.trainable in ("all", "heads")
        else f"trainable is {stage.trainable!r}, and neither 'all' nor 'heads'."
    )


# The numbers of a stage: the least, and one that is too large.
BOUNDS = (
    ("epochs", 1, float("inf")),
    ("steps", 1, float("inf")),
    ("learning_rate", SLOWEST, float("inf")),
    ("warmup", 0, 1),
    ("weight_decay", 0, float("inf")),
)


def measure_length(hook: Any, streams: Streams, stage: Stage, tasks: Sequence[Task]) -> Length:
    """Count the updates of an epoch and of the stage. Raises ConfigError if a task has no examples."""
    for task in tasks:
        if "train" not in task.splits or not len(task.splits["train"]):
            raise ConfigError(f"task '{task.name}' has no examples to train on.")
    with streams.at(stage.name):
        epoch = hook.epoch_steps(tasks=tasks)
    return Length(epoch, stage.steps or stage.epochs * epoch)


def prepare(hook: Any, model: MultitaskModel, stage: Stage, tasks: Sequence[Task]) -> None:
    """Freeze or unfreeze the encoder for this stage, then call the `prepare` hook.

    What a plugin froze in `build` stays frozen. Raises ConfigError if a task would have no trainable weights.
    """
    check_weights(model, stage, tasks)
    for name, weight in model.named_parameters():
        if name.startswith("encoder."):
            weight.requires_grad_(stage.trainable == "all" and name not in model.frozen)
    hook.prepare(model=model, stage=stage, tasks=tasks)


def check_weights(model: MultitaskModel, stage: Stage, tasks: Sequence[Task]) -> None:
    """Raise ConfigError if a stage trains the heads alone, and a task's head has no weights."""
    for task in tasks:
        if stage.trainable == "heads" and not list(model.heads[task.name].parameters()):
            raise ConfigError(
                f"task '{task.name}' has nothing to train while the encoder is frozen: a cosine has no weights. "
                "Read its pairs as cross_encoder, or leave the task out."
            )


def surgeons(state: State, stage: Stage) -> list[str]:
    """List the plugins that combine the tasks' gradients in a stage, in their order."""
    answer = {each.plugin_name for each in state.hook.combine_gradients.get_hookimpls()}
    return [name for name in state.plugins if name in answer and state.acts(name, stage.name)]


def check_surgery(state: State, stage: Stage) -> None:
    """Raise PluginError if a plugin combines gradients of an encoder that is frozen."""
    frozen = stage.trainable == "heads" or not list(state.model.shared_parameters())
    if frozen and (found := surgeons(state, stage)):
        raise PluginError(
            f"'{found[0]}' looks at the tasks' gradients of the encoder, but the encoder is frozen in stage "
            f"'{stage.name}'; leave it out, or train the encoder."
        )


def make_optimizer(hook: Any, model: MultitaskModel, stage: Stage) -> torch.optim.Optimizer:
    """Make the stage's optimizer, and note the peak of each group's learning rate in it."""
    optimizer: torch.optim.Optimizer = hook.make_optimizer(model=model, stage=stage)
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    if not trained & {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}:
        raise PluginError(
            f"the optimizer of stage '{stage.name}' has none of the model's weights; make_optimizer gives them."
        )
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def set_rates(hook: Any, optimizer: torch.optim.Optimizer, stage: Stage, step: int, total_steps: int) -> None:
    """Set the learning rates of this step: the peak of each parameter group times what `schedule` answers."""
    factor = hook.schedule(stage=stage, step=step, total_steps=total_steps)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
