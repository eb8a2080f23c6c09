"""What the schedulers' tests share: tasks of known sizes, and whose turn it is over an epoch.

The large tasks are those of the course: 8,500, 25,700 and 6,000 examples, which batches of 32 are 266, 804 and 188 updates.
"""

import inspect
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regkit import Examples, MultitaskModel, Stage, Streams, Task, hookimpl
from regkit.hooks import catalog
from regkit.hooks.compose import compose
from regkit.hooks.defaults import Defaults
from regkit.model import Bert
from regkit.tasks.objectives import Binary, Classification, Regression
from regkit.testing import TINY, tiny_task
from regkit.training.loop import Trainer
from regkit.training.passes import Passes
from regkit.training.stages import measure_length
from regkit.training.state import State
from tests.helpers import stages_of

Scores = Mapping[str, Mapping[str, float]]
Counts = tuple[int, ...]

BATCHES = (266, 804, 188)
TOTAL = 1258
ALIKE = (420, 419, 419)  # 1258 / 3, the one left over to the first

EACH: dict[str, dict[str, Any]] = {
    "rrobin": {},
    "proportional": {},
    "temperature": {},
    "annealed": {},
    "weighted": {"weights": {"sst": 1, "quora": 2, "sts": 1}},
    "adaptive": {},
    "only": {"task": "quora"},
}


def large(name: str, size: int, batch_size: int = 32) -> Task:
    """A task of so many examples of one token each; there is nothing in it to train on."""
    nothing = np.zeros(0, dtype=np.int32)
    return Task(
        name, Regression(0, 5), {"train": Examples(nothing, nothing, np.arange(size + 1), None)}, None, batch_size
    )


def course() -> list[Task]:
    return [large("sst", 8_500), large("quora", 25_700), large("sts", 6_000)]


def tenth() -> list[Task]:
    return [large("sst", 850), large("quora", 2_570), large("sts", 600)]


def small() -> list[Task]:
    """Tasks to train on, of 5, 3 and 2 batches, under the names of the large ones."""
    return [
        tiny_task("sst", Classification(3)),
        tiny_task("quora", Binary(), "cross_encoder", size=13),
        tiny_task("sts", Regression(0, 5), "cross_encoder", size=8),
    ]


def trainer_of(
    *plugins: Mapping[str, Any],
    tasks: Sequence[Task] | None = None,
    epochs: int = 1,
    steps: int | None = None,
    seed: int = 0,
    observers: Sequence[object] = (),
) -> Trainer:
    """As `tiny_trainer`, but over whole epochs."""
    tasks, streams = course() if tasks is None else tasks, Streams(seed)
    with streams.seeded("encoder"):
        model = MultitaskModel(Bert(TINY), tasks, streams, dropout=0.1)
    stage = Stage("finetune", [task.name for task in tasks], epochs, steps, learning_rate=1e-2)
    together = {name: plugin for each in plugins for name, plugin in each.items()}
    composition = compose(together, Defaults(tasks, stage), streams)
    for observer in observers:
        composition.observe(observer)
    return Trainer(
        Passes(model, composition.hook, streams),
        State(model, composition.hook, streams, together, composition.acts),
        tasks,
    )


def epochs_of(trainer: Trainer) -> list[list[tuple[str, ...]]]:
    """List the names of the tasks by epoch and step, as the scheduler itself answers."""
    ((stage, tasks),) = stages_of(trainer)
    length, total = measure_length(trainer.hook, trainer.streams, stage, tasks)
    (choose,) = (plugin.choose_tasks for plugin in trainer.state.plugins.values() if hasattr(plugin, "choose_tasks"))
    known = {"tasks": tasks, "total_steps": total}
    wanted = inspect.signature(choose).parameters
    named = {name: value for name, value in known.items() if name in wanted}
    steps = [choose(**named, **({"step": step} if "step" in wanted else {})) for step in range(total)]
    names = [tuple(task.name for task in chosen) for chosen in steps]
    return [names[start : start + length] for start in range(0, total, length)]


def counts(epoch: Sequence[Sequence[str]], names: Sequence[str] = ("sst", "quora", "sts")) -> Counts:
    found = Counter(itertools.chain.from_iterable(epoch))
    assert set(found) <= set(names)
    return tuple(found[name] for name in names)


def counted(plugin: Any, **options: Any) -> list[Counts]:
    """How often each of the large tasks comes in each epoch."""
    return [counts(epoch) for epoch in epochs_of(trainer_of({"scheduler": plugin}, **options))]


def made(name: str) -> dict[str, Any]:
    return {name: catalog.make(name, EACH[name])}


def everybody() -> dict[str, list[list[tuple[str, ...]]]]:
    """Every scheduler's turns over two epochs of tasks a tenth as large."""
    return {name: epochs_of(trainer_of(made(name), tasks=tenth(), epochs=2)) for name in EACH}


class Log:
    """An observer that notes the tasks of every update, and the scores."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []
        self.scores: list[tuple[int, Scores]] = []

    @hookimpl(trylast=True)
    def after_step(self, losses: Mapping[str, Any]) -> None:
        self.steps.append(list(losses))

    @hookimpl(trylast=True)
    def evaluated(self, step: int, scores: Scores) -> None:
        self.scores.append((step, scores))
