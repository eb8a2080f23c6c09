"""Faults: the mistakes that writers of plugins make, each refused or said with plugin, hook and remedy."""

import copy
import json
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from regkit_plugins.bregman import Bregman
from regkit_plugins.rdrop import RDrop
from regkit_plugins.sam import SAM
from torch import Tensor

from regkit.base.errors import PluginError
from regkit.hooks.compose import Composition
from regkit.hooks.spec import Losses, Predict, hookimpl
from regkit.hooks.watch import FIRST, Watch
from regkit.model import MultitaskModel
from regkit.runs import checkpoint
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.testing import tiny_task, tiny_tasks, tiny_trainer
from regkit.testing.observers import same_weights
from regkit.testing.tiny import tiny_run
from regkit.training.loop import Trainer
from tests.helpers import regkit, with_stranger

Terms = Mapping[str, Tensor]


def plugin(hook: str, method: Callable[..., Any], **marks: bool) -> object:
    """A plugin of one hook."""
    return type("Plugin", (), {hook: hookimpl(**marks)(method)})()


def giving(term: Callable[..., Any]) -> object:
    """A plugin with a term that is computed from the output."""
    return plugin("extra_losses", lambda self, output: {"x": term(output)})


def doing(action: Callable[[MultitaskModel], object], hook: str = "extra_losses") -> object:
    """A plugin that does something to the model, and gives no term."""
    return plugin(hook, lambda self, model: (action(model) and None) or {})


def weight(model: MultitaskModel) -> Tensor:
    return model.encoder.layers[0].up.weight


@torch.no_grad()
def shrink(model: MultitaskModel) -> None:
    weight(model).mul_(0.9)


def shrink_unseen(model: MultitaskModel) -> None:
    weight(model).data.mul_(0.9)


def look_back(self: object, loss: Tensor) -> Terms:
    loss.backward(retain_graph=True)
    return {"x": loss}


def forget_return(self: object) -> Generator[None, Tensor, None]:
    yield


def switch_off(self: object) -> Generator[None, Tensor, Tensor]:
    with torch.no_grad():
        return (yield)


def sum_up(self: object, task: Task, batch: Batch, output: Tensor) -> Tensor:
    assert batch.labels is not None
    return len(batch) * task.objective.loss(output, batch.labels)


def sum_up_around(self: object, batch: Batch) -> Generator[None, Tensor, Tensor]:
    return len(batch) * (yield)


def pop(self: object, tasks: list[Task]) -> Sequence[Task]:
    return [tasks.pop()]


class Averages:
    """Learns in `after_step`, and keeps nothing in a checkpoint."""

    mean = 0.0

    @hookimpl
    def after_step(self, losses: Losses) -> None:
        self.mean = 0.9 * self.mean + sum(float(terms["task"]) for terms in losses.values())


class Collects:
    """Keeps a set."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    @hookimpl
    def after_step(self, step: int) -> None:
        self.seen.add(step)

    def state_dict(self) -> Mapping[str, object]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, set[int]]) -> None:
        self.seen = state["seen"]


class Draws:
    """Draws from a generator of its own."""

    def __init__(self, random: Any) -> None:
        self.random = random

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task]) -> Sequence[Task]:
        return tasks[: 1 + int(self.random.random() > 2)]

    @hookimpl
    def epoch_steps(self) -> int:
        return FIRST


class Teaches:
    """Asks a copy of the model that takes part in the backward pass."""

    @hookimpl
    def prepare(self, model: MultitaskModel) -> None:
        self.teacher = copy.deepcopy(model)

    @hookimpl
    def extra_losses(self, task: Task, batch: Batch, output: Tensor, predict: Predict) -> Terms:
        target = predict(self.teacher.embed(batch), dropout="off", model=self.teacher)
        return {"x": task.objective.divergence(output, target)}


class Remembers:
    """Keeps the output of the last step with its graph."""

    last: Tensor | None = None

    @hookimpl
    def extra_losses(self, output: Tensor) -> Terms:
        last, self.last = self.last, output.mean()
        return {} if last is None else {"x": (self.last - last) ** 2}


class Unmarked:
    """Has a hook without its mark."""

    @hookimpl
    def after_step(self) -> None: ...

    def extra_losses(self, loss: Tensor) -> Terms:
        return {"x": loss}


REFUSED: Mapping[str, tuple[Callable[[], object], str]] = {
    "float": (
        lambda: giving(lambda output: 1.5),
        "extra_losses gives 'x' as 1.5, of type float; it needs to be a scalar",
    ),
    "vector": (
        lambda: giving(torch.flatten),
        "extra_losses gives 'x' as a tensor of shape [12]; it needs to be a scalar",
    ),
    "detached term": (
        lambda: giving(lambda output: output.mean().detach()),
        "extra_losses gives 'x' without a gradient",
    ),
    "detached loss": (
        lambda: plugin("task_loss", lambda self, output: output.detach().mean()),
        "task_loss returns a tensor without a gradient",
    ),
    "reserved name": (
        lambda: plugin("extra_losses", lambda self, loss: {"task": loss}),
        "extra_losses calls a term 'task', as the clean loss is called",
    ),
    "backward": (
        lambda: plugin("extra_losses", look_back),
        "extra_losses changes the gradient of encoder.word.weight, as",
    ),
    "random": (
        lambda: giving(lambda output: random.random() * output.mean()),
        "extra_losses draws from Python's random, which no seed of the run sets; draw with torch's default generators",
    ),
    "numpy": (
        lambda: giving(lambda output: float(np.random.rand()) * output.mean()),
        "extra_losses draws from numpy's global generator, which no seed",
    ),
    "set": (Collects, "its state_dict has {0, 1, 2}, of type set at 'seen'; a checkpoint keeps tensors, numbers, text"),
    "weight": (
        lambda: doing(shrink),
        "extra_losses changes the weight encoder.layers.0.up.weight in place; change weights",
    ),
    "weight by .data": (
        lambda: doing(shrink_unseen),
        "extra_losses leaves the weight encoder.layers.0.up.weight changed",
    ),
    "weight moved": (
        lambda: doing(shrink, "before_step"),
        "before_step leaves the weight encoder.layers.0.up.weight chang",
    ),
    "wrapper without return": (
        lambda: plugin("task_loss", forget_return, wrapper=True),
        "the wrapper task_loss returns nothing; it needs a scalar tensor",
    ),
    "decider without return": (
        lambda: plugin("predict", lambda self: None),
        "predict returns nothing; it needs a tensor of real numbers, [examples, width] or [examples]; is a `return` miss",
    ),
    "one task": (
        lambda: plugin("choose_tasks", lambda self, tasks: tasks[0]),
        "choose_tasks returns the task 'classes'; it needs a list of one or more tasks",
    ),
    "mode": (
        lambda: doing(lambda model: model.eval()),
        "extra_losses leaves the mode of the model changed; put it back, or",
    ),
    "mode of a part": (
        lambda: doing(lambda model: model.heads.eval(), "before_step"),
        "before_step leaves the mode of heads changed",
    ),
    "frozen": (
        lambda: doing(lambda model: model.encoder.requires_grad_(False)),
        "extra_losses leaves requires_grad of encoder.word.weight changed; put it back.",
    ),
    "gradients off": (
        lambda: plugin("predict", switch_off, wrapper=True),
        "the wrapper predict leaves the recording of gradients changed for all that follows; put it back, and before a",
    ),
    "tasks": (
        lambda: plugin("choose_tasks", pop),
        "choose_tasks changes `tasks` in place, which others are given too; cha",
    ),
    "embeddings": (
        lambda: plugin("extra_losses", lambda self, embeddings: embeddings.detach().add_(1) is None or {}),
        "extra_losses changes `embeddings` in place",
    ),
    "labels": (
        lambda: plugin("extra_losses", lambda self, batch: batch.labels.zero_() is None or {}),
        "extra_losses changes `batch` in place",
    ),
    "scores": (
        lambda: plugin("evaluated", lambda self, scores: scores["classes"].update(accuracy=1.0)),
        "evaluated changes `scores` in place",
    ),
    "losses": (
        lambda: plugin("after_step", lambda self, losses: losses["classes"].clear()),
        "after_step changes `losses` in place",
    ),
}

SAID: Mapping[str, tuple[Callable[[], object], str]] = {
    "forgotten state": (
        Averages,
        "after_step changes `mean`, which no checkpoint keeps, so a resumed run begins without it",
    ),
    "own generator": (
        lambda: Draws(random.Random(0)),
        "choose_tasks draws from `random`, whose state no checkpoint keeps",
    ),
    "own generator of numpy": (
        lambda: Draws(np.random.default_rng(0)),
        "choose_tasks draws from `random`, whose state no",
    ),
    "torch.rand": (
        lambda: giving(lambda output: (torch.rand_like(output) * output).mean()),
        "extra_losses draws numbers by itself for each micro-batch, so they depend on how memory and processes cut a batch",
    ),
    "teacher": (Teaches, "its copy of the model gathers gradients, which takes time and memory, and nothing uses them"),
    "sum": (
        lambda: plugin("task_loss", sum_up),
        "task_loss returns as many times the usual loss as a batch has examples: if it is",
    ),
    "sum around": (
        lambda: plugin("task_loss", sum_up_around, wrapper=True),
        "the wrapper task_loss returns as many times the usual loss",
    ),
}


def run(made: object, **options: Any) -> tuple[Trainer, Composition]:
    """Train the first steps with a plugin `a`, and try what a checkpoint would hold."""
    trainer, composition = tiny_run({"a": made}, tiny_tasks()[:1], steps=FIRST, **options)
    trainer.train()
    checkpoint.moment(trainer.state)
    return trainer, composition


@pytest.mark.parametrize("fault", REFUSED)
def test_a_fault_that_makes_numbers_wrong_is_refused_with_plugin_hook_and_remedy(fault: str) -> None:
    make, says = REFUSED[fault]
    with pytest.raises(PluginError) as caught:
        run(make())
    assert str(caught.value).startswith(f"plugin 'a': {says}")
    assert not isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("fault", SAID)
def test_a_fault_that_shows_elsewhere_is_said_once(fault: str) -> None:
    make, says = SAID[fault]
    (sentence,) = run(make())[1].watch.said
    assert sentence.startswith(f"plugin 'a': {says}")
    assert sentence.endswith(".")


def test_gradients_that_are_thrown_away_between_micro_batches_are_noticed() -> None:
    with pytest.raises(PluginError, match=r"plugin 'a': extra_losses changes the gradient of .*zero_grad\(\)"):
        run(doing(lambda model: model.zero_grad()), micro_batch_tokens=20)


def test_a_method_without_its_mark_is_refused_before_anything_runs() -> None:
    with pytest.raises(PluginError, match="plugin 'a' has a method extra_losses without @hookimpl"):
        tiny_trainer({"a": Unmarked()})


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (Remembers, "a hook of 'a' or 'b' calls backward(), or keeps a tensor of an earlier step without detach()."),
        (lambda: doing(shrink), "a hook of 'a' or 'b' changes in place what the pass still needs."),
    ],
    ids=["an old graph", "in place"],
)
def test_a_graph_that_a_hook_has_spoilt_is_said_without_watching(
    made: Callable[[], object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "on", False)
    with pytest.raises(PluginError) as caught:
        tiny_trainer({"a": made(), "b": SAM()}, tasks=[tiny_task("t", tiny_tasks()[0].objective)], steps=2).train()
    assert str(caught.value) == f"the loss of task 't' has no gradient any more: {says}"


def test_one_draw_of_somebody_else_is_no_fault() -> None:
    """As of a tracker's thread, which draws while a hook runs."""

    class Unlucky:
        drawn = False

        @hookimpl
        def extra_losses(self) -> Terms:
            if not self.drawn:
                self.drawn = bool(random.random() + 1)
            return {}

    assert run(Unlucky())[1].watch.said == []


def test_fresh_dropout_is_no_draw_of_the_plugins_own() -> None:
    assert run(RDrop())[1].watch.said == []


@pytest.mark.parametrize("every", [0, 1, 4])
def test_after_the_first_steps_one_in_so_many_is_watched(every: int) -> None:
    trainer, composition = tiny_run({}, tiny_tasks()[:1])
    composition.watch.every = every
    watched = []
    for step in range(12):
        with trainer.streams.at("finetune", step, "classes", 0):
            watched += [step] if composition.watch.on else []
    assert watched == {0: [0, 1, 2], 1: [*range(12)], 4: [0, 1, 2, 6, 10]}[every]


def test_watching_changes_no_bit_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, draws of the plugins' own, a teacher, and weights that move and come back."""
    trainers = []
    for on in (True, False):
        monkeypatch.setattr(Watch, "on", on)
        made = {"sam": SAM(), "rdrop": RDrop(), "bregman": Bregman(), "x": SAID["torch.rand"][0]()}
        trainer, composition = tiny_run(made, tiny_tasks()[:1], steps=2)
        trainer.train()
        assert bool(composition.watch.said) == on
        trainers.append(trainer)
    same_weights(*trainers)


FORGETFUL = """
from dataclasses import dataclass, field
from regkit import hookimpl

@dataclass
class Plugin:
    steps: int = field(init=False, default=0)

    @hookimpl
    def after_step(self):
        self.steps += 1
"""


def test_the_command_says_what_was_noticed_and_notes_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", x=FORGETFUL)
    words = ("--data", place / "data", "--encoder", place / "encoder", "--steps", 4, "--output", tmp_path / "run")
    ran = regkit("train", *words, "-p", "x", cwd=tmp_path)
    said = "plugin 'x': after_step changes `steps`, which no checkpoint keeps"
    warnings = json.loads((tmp_path / "run" / "effects.json").read_text())["warnings"]
    assert ran.status == 0
    assert [each.startswith(said) for each in warnings].count(True) == 1
    assert (ran.out + ran.err).count(f"warning: {said}") == 2  # when it is noticed, and in the summary


@dataclass(slots=True)
class Slotted:
    """A plugin whose attributes stand in slots, and which forgets its state."""

    steps: int = field(default=0, init=False)

    @hookimpl
    def after_step(self) -> None:
        self.steps += 1


def test_a_plugin_with_slots_is_watched_as_any_other() -> None:
    trainer, composition = tiny_run({"x": Slotted()}, tiny_tasks()[:1], steps=2)
    trainer.train()
    assert any("changes `steps`, which no checkpoint keeps" in said for said in composition.watch.said)


class Leaves:
    """Ends the program where its state is asked for."""

    @hookimpl
    def after_step(self) -> None: ...

    def state_dict(self) -> Mapping[str, object]:
        raise SystemExit(0)

    def load_state_dict(self, state: Mapping[str, object]) -> None: ...


def test_a_state_that_ends_the_program_is_the_plugins_failure() -> None:
    trainer = tiny_trainer({"leaves": Leaves()}, steps=1)
    trainer.train()
    with pytest.raises(PluginError, match="plugin 'leaves' failed in state_dict: SystemExit: 0"):
        trainer.state.capture()
