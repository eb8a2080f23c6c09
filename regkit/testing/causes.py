"""Causes: find out why a promise is broken, in a sentence that names the hook and the remedy.

They run once more what has failed, with watched plugins: a promise that is kept pays nothing for them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regkit.data.order import Feed
from regkit.hooks.marks import GENERATORS, parts, state_of
from regkit.hooks.spec import hookimpl
from regkit.tasks.task import Task
from regkit.testing.observers import Snapshot, exactly, prepared
from regkit.testing.tiny import tiny_run, tiny_trainer
from regkit.testing.verdicts import Factory, Tasks, lean
from regkit.training.loop import Trainer
from regkit.training.update import share

TOLERANCE = 1e-5


def of_two_runs(factory: Factory, tasks: Tasks) -> str:
    """Say why two runs with one seed differ; nothing if they do not."""
    one, other = (tiny_trainer(factory(), tasks=lean(factory, tasks)) for _ in range(2))
    one.train()
    other.train()
    differ = "two runs with one seed differ already: it draws from what no seed reaches, or reads the clock"
    return differ if unlike(one, other) else ""


def of_a_resumed_run(factory: Factory, tasks: Tasks, steps: int) -> str:
    """Say why a resumed run is another: two runs differ already, or a plugin forgets something."""
    if differ := of_two_runs(factory, tasks):
        return differ
    if lost := _forgotten(factory, tasks, steps):
        plugin, name = lost
        return f"'{plugin}' forgets `{name}`; state_dict has to return it, and load_state_dict to put it back"
    return "something that the plugin changes is in no state_dict"


def _forgotten(factory: Factory, tasks: Tasks, steps: int) -> tuple[str, str] | None:
    """Find an attribute of a plugin that is another after a checkpoint was loaded than when it was made."""
    stop, kept = Snapshot(after=steps, ends=True), Memory()
    stop.trainer = kept.trainer = first = tiny_trainer(factory(), tasks=tasks(), observers=[stop, kept])
    first.train()
    loaded = Memory()
    loaded.trainer = second = tiny_trainer(factory(), tasks=tasks(), observers=[loaded])
    second.model.load_state_dict(stop.model)
    second.state.load(stop.training)
    second.train()
    for plugin, before in kept.last.items():
        for name, value in before.items():
            if loaded.first[plugin].get(name) != value:
                return plugin, name
    return None


class Memory:
    """An observer that keeps, as text, what plugins hold before the first step and after the last."""

    trainer: Trainer

    def __init__(self) -> None:
        self.first: dict[str, dict[str, str]] = {}
        self.last: dict[str, dict[str, str]] = {}

    @hookimpl(wrapper=True, tryfirst=True)
    def choose_tasks(self) -> Any:
        """Keep what they hold before the first step."""
        self.first = self.first or self._held()
        return (yield)

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        """Keep what they hold after a step."""
        self.last = self._held()

    def _held(self) -> dict[str, dict[str, str]]:
        return {name: held(plugin) for name, plugin in self.trainer.state.plugins.items()}


def held(plugin: object) -> dict[str, str]:
    """Write what each attribute of a plugin holds as text, those alone whose text says it all."""
    found = {name: _text(value) for name, value in parts(plugin).items()}
    return {name: text for name, text in found.items() if " at 0x" not in text}


def _text(value: Any) -> str:
    if isinstance(value, nn.Module):
        return exactly(value.state_dict())
    if isinstance(value, tuple(GENERATORS)):
        return str(state_of(value))
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_text(item)}' for key, item in value.items())}}}"
    return exactly(sorted(map(repr, value)) if isinstance(value, set) else value)


def of_a_cut(factory: Factory, tasks: Tasks, task: Task, tokens: int) -> str:
    """Say why the gradient of a batch depends on how it is cut into micro-batches."""
    trainer, composition = tiny_run(factory(), tasks(), dropout=0.0)
    composition.watch.closely = True
    whole, parts, shares = _terms(trainer, task, tokens)
    if said := composition.watch.said:
        return said[0].removesuffix(".")
    for name, value in whole.items():
        found = [part.get(name, 0.0) for part in parts]
        mean = sum(weight * part for weight, part in zip(shares, found, strict=True))
        if not _near(value, mean):
            what = f"the term '{name}'" if name != "task" else "the loss of the task"
            if _near(value, sum(found)):
                return f"{what} is a sum over the examples of a batch; return a mean over them"
            return (
                f"{what} of a batch is not the mean of its examples' own: it compares them or counts them; reduce each "
                "example by itself (batch.per_example), or say that batches must not be cut (whole_batches = True)"
            )
    return "a hook answers for an example according to the others in its micro-batch"


def _terms(trainer: Trainer, task: Task, tokens: int) -> tuple[dict[str, float], list[dict[str, float]], list[float]]:
    """Compute the terms of a task's second batch, of the whole and of each of its parts.

    Returns the parts' shares of it, too.
    """
    trainer.model.double()
    stage, _ = prepared(trainer)
    trainer.model.train()
    found: list[list[dict[str, float]]] = []
    shares: list[float] = []
    for most in (10_000, tokens):
        batches = Feed(task, 0, stage.name).micro_batches(1, most)
        shares = [share(batch, batches) for batch in batches]
        found.append([])
        for number, batch in enumerate(batches):
            with trainer.streams.at(stage.name, 0, task.name, number):
                terms: Mapping[str, Tensor] = trainer.passes.losses(task, batch)
            found[-1].append({name: float(term.detach()) for name, term in terms.items()})
    return found[0][0], found[1], shares


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(abs(one), abs(other), 1e-6)


def unlike(one: Trainer, other: Trainer) -> str:
    """Name the first weight that differs between two runs, in training or evaluated; nothing if none does."""
    found = different(one.model, other.model)
    return found or different(one.state.evaluated_model(), other.state.evaluated_model())


def different(one: nn.Module, other: nn.Module) -> str:
    """Name the first weight that differs in a single bit between two models; nothing if none does."""
    theirs = dict(other.named_parameters())
    return next((name for name, tensor in one.named_parameters() if not torch.equal(tensor, theirs[name])), "")
