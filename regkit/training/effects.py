"""Effects: measure each plugin's share of the gradient and of the time, on one in many batches.

A measured batch costs one more backward pass for each term of the loss, and whatever the plugins' `measure` costs; its
first micro-batch stands for all. With the plugins of regkit that comes to less than two steps more, so that one batch in
100 is at most 2 % of a run. Measuring changes nothing: the step is the one that would have been made without.
"""

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from regkit.base.combine import inner_products
from regkit.base.wording import enumerated, percent
from regkit.hooks.compose import Composition
from regkit.hooks.spec import Predict, hookimpl
from regkit.hooks.stopwatch import CORE
from regkit.hooks.traits import is_scaled, strengths
from regkit.model import MultitaskModel
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.training.passes import terms
from regkit.training.state import State

LITTLE, MUCH = 0.001, 0.9  # shares of the gradient that earn a warning
FAR = 0.01  # part of the share that was asked for, below which it is not held
SHARE = "share of the gradient"
KINDS = ("terms", "measures", "plugins", "cosines")  # of what is measured, in a summary
Record = dict[str, Any]
Answers = list[Mapping[str, Tensor]]


@dataclass
class Meter:
    """An observer that measures one in `every` batches of a task. Whoever logs a step calls `finish`.

    The tasks' first measured batches are spread over the first `every`: a short run measures some of the tasks alone.
    """

    state: State
    composition: Composition
    every: int = 100  # 0 never measures
    tasks: int = 1  # of the stage
    due: set[str] = field(default_factory=set)  # tasks to be measured in this step
    trying: bool = False  # before the first step
    record: Record = field(default_factory=dict)
    backward: dict[str, float] = field(default_factory=dict)  # seconds of backward passes, by plugin

    @hookimpl(trylast=True)
    def prepare(self, tasks: Sequence[Task]) -> None:
        """Measure trial steps too: a measured step needs the most memory."""
        self.trying, self.tasks = True, len(tasks)
        self._begin({task.name for task in tasks} if self.every else set())

    @hookimpl(wrapper=True)
    def choose_tasks(self) -> Generator[None, Sequence[Task], Sequence[Task]]:
        """Decide whether this step is measured."""
        chosen = yield
        self.trying = False
        if self.every:
            self._begin({task.name for task in chosen if self._is_due(task.name)})
        if self.due:
            self.composition.stopwatch.start(self.state.model.encoder)
        return chosen

    def _is_due(self, task: str) -> bool:
        """Whether this batch of a task is measured.

        Each task that gave one before has its place among `every` batches.
        """
        seen = self.state.position.seen
        before = list(seen).index(task) if task in seen else len(seen)
        early = min(1, self.every - 1)  # the second batch: by then a teacher is no mere copy
        since = seen.get(task, 0) - early - before * self.every // self.tasks
        return since >= 0 and since % self.every == 0

    def _begin(self, due: set[str]) -> None:
        self.due, self.record = due, {"terms": {}, "measures": {}, "cosines": {}}
        self.backward = dict.fromkeys(self.composition.in_steps(), 0.0)

    @hookimpl(wrapper=True)
    def encode(self) -> Generator[None, Tensor, Tensor]:
        """Count a forward pass."""
        with self.composition.stopwatch.encoding():
            return (yield)

    @hookimpl(wrapper=True)
    def extra_losses(
        self,
        model: MultitaskModel,
        task: Task,
        batch: Batch,
        embeddings: Tensor,
        output: Tensor,
        loss: Tensor,
        predict: Predict,
    ) -> Generator[None, Answers, Answers]:
        """Measure the terms of the loss: all are at hand, and no backward pass was made."""
        answers = yield
        if task.name not in self.due:
            return answers
        if not self.trying:
            self.due.remove(task.name)
        with self.composition.stopwatch.paused():
            self._gradients(model, task, batch, terms(loss, answers))
            self.record["measures"][task.name] = {
                plugin: {name: float(value) for name, value in found.items()}
                for answer in self.composition.hook.measure(
                    model=model, task=task, batch=batch, embeddings=embeddings, output=output, predict=predict
                )
                for plugin, found in answer.items()
            }
        return answers

    def _gradients(self, model: MultitaskModel, task: Task, batch: Batch, losses: Mapping[str, Tensor]) -> None:
        """Record each term's size, gradient norm, and extra time of its backward pass over the task's."""
        found = self.record["terms"].setdefault(task.name, {})
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        clock, plain = self.composition.stopwatch.now, 0.0
        longer: dict[str, float] = {}  # by plugin: seconds that its terms add; several terms share one pass backward
        for name, term in losses.items():
            found[name] = {"size": float(term.detach())}
            if len(losses) == 1 or not term.requires_grad:
                continue
            began = clock()
            norm = gradient_norm(term, parameters)
            took = clock() - began
            found[name]["gradient"] = float(norm)
            plain = plain or took
            if owner := self.composition.owners.get(name):
                longer[owner] = max(longer.get(owner, 0.0), took - plain)
        for owner, seconds in longer.items():
            self.backward[owner] += seconds * task.batch_size / len(batch)

    @hookimpl(wrapper=True, trylast=True)  # which marks the core's: no reason to keep the tasks' gradients apart
    def combine_gradients(self, tasks: Sequence[Task], gradients: Tensor) -> Generator[None, Tensor, Tensor]:
        """Record the cosines between the tasks' gradients, if several share the step."""
        if self.composition.stopwatch.running:
            with self.composition.stopwatch.paused():
                products = inner_products(gradients)  # a copy of the rows would take more than all else in the step
                norms = products.diagonal().sqrt().clamp(min=1e-12)
                cosines = (products / norms / norms[:, None]).tolist()
                for (row, one), (column, other) in combinations(enumerate(tasks), 2):
                    self.record["cosines"][f"{one.name} and {other.name}"] = cosines[row][column]
        return (yield)

    def finish(self) -> Record:
        """Return what was measured in the step that ends here; nothing for most steps."""
        stopwatch = self.composition.stopwatch
        if not stopwatch.running:
            return {}
        stopwatch.stop()
        for plugin, seconds in self.backward.items():  # spent by the core, for the sake of the plugin's terms
            stopwatch.seconds[plugin] += seconds
            stopwatch.seconds[CORE] -= seconds
        return self.record | {"seconds": dict(stopwatch.seconds), "passes": stopwatch.passes}


def summary(records: Sequence[Record]) -> dict[str, dict[str, dict[str, float]]]:
    """Average the records of a run: `terms`, `measures`, `plugins` and `cosines`, each by name."""
    terms, measures, cosines = defaultdict(list), defaultdict(list), defaultdict(list)
    seconds, passes = defaultdict[str, float](float), defaultdict[str, float](float)
    for record in records:
        for found in record["terms"].values():
            whole = sum(term.get("gradient", 0.0) for term in found.values())
            for name, term in found.items():
                terms[name, "size"].append(term["size"])
                terms[name, SHARE].append(term.get("gradient", 0.0) / whole if whole else float(name == "task"))
        for plugins in record["measures"].values():
            for plugin, values in plugins.items():
                for name, value in values.items():
                    measures[plugin, name].append(value)
        for pair, value in record["cosines"].items():
            cosines[pair, "cosine of the gradients"].append(value)
            cosines[pair, "share of conflicts"].append(float(value < 0))
        for plugin, count in record["passes"].items():
            passes[plugin] += count
        for plugin, value in record["seconds"].items():
            seconds[plugin] += value
    whole = sum(seconds.values())
    plugins = {
        plugin: {"share of the time": seconds[plugin] / whole, "extra passes": passes[plugin] / passes[CORE]}
        for plugin in seconds
        if plugin != CORE
    }
    return {"terms": _means(terms), "measures": _means(measures), "plugins": plugins, "cosines": _means(cosines)}


def _means(lists: Mapping[tuple[str, str], Sequence[float]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (owner, name), values in lists.items():
        found.setdefault(owner, {})[name] = mean(values)
    return found


def warnings(found: Mapping[str, Mapping[str, Mapping[str, float]]], composition: Composition) -> list[str]:
    """Write a sentence, with a remedy, for each term that does next to nothing or dominates the gradient."""
    said = []
    for term, values in found["terms"].items():
        owner, share = composition.owners.get(term), values[SHARE]
        if owner is None or owner in composition.automatic or LITTLE <= share <= MUCH:
            continue
        plugin = composition.plugins[owner]
        if not share:  # raised by a weight, nothing stays nothing
            said.append(f"'{term}' gives no gradient at all: it does nothing, whatever the options of '{owner}'.")
            continue
        options = " or ".join(f"{name} (now {getattr(plugin, name):g})" for name in strengths(plugin))
        verdict, remedy = ("does next to nothing", "raise") if share < LITTLE else ("dominates the gradient", "lower")
        change = f"{remedy} {options} of '{owner}'" if options else f"see the options of '{owner}'"
        more = "" if share < LITTLE else ", unless the term is a sum over examples and should be their mean"
        said.append(f"'{term}' gives {percent(share)} % of the gradient: it {verdict}; {change}{more}.")
    return said + _not_held(found["terms"], composition)


def _not_held(terms: Mapping[str, Mapping[str, float]], composition: Composition) -> list[str]:
    """Write a sentence for each plugin whose terms are far from the share that they should have."""
    said = []
    for owner, asked in composition.automatic.items():
        plugin = composition.plugins[owner]
        shares = [
            values[SHARE]
            for term, values in terms.items()
            if composition.owners.get(term) == owner and is_scaled(plugin, term)
        ]
        held = sum(shares)
        if not shares or FAR * asked <= held <= MUCH:
            continue
        has = f"{percent(held)} %" if held else "nothing"
        why = (
            "" if held else " No weight was found: it had no gradient, or one that is not finite, or the run is short."
        )
        said.append(
            f"'{owner}' gives {has} of the gradient where {percent(asked)} % was asked for; give it a number as weight, or "
            f"leave it out.{why}"
        )
    return said


def in_words(effects: Mapping[str, Any]) -> list[str]:
    """Write what each term of the loss and each plugin did and cost, and the warnings, a line each."""
    found = [(name, values) for kind in KINDS for name, values in effects.get(kind, {}).items()]
    lines = []
    for name in dict.fromkeys(name for name, _ in found if name != "task"):
        parts = [", ".join(_effect(*each) for each in values.items()) for other, values in found if other == name]
        lines.append(f"effect of {name}: {'; '.join(parts)}")
    if unmeasured := effects.get("unmeasured"):
        lines.append(f"nothing of this was measured on {enumerated(unmeasured)}; a lower --measure-every does that")
    return lines + [f"warning: {sentence}" for sentence in effects["warnings"]]


def _effect(meaning: str, value: float) -> str:
    part, share, whole = meaning.partition("share of ")
    return f"{percent(value)} % of {whole}" if share and not part else f"{meaning} {value:.3g}"


def gradient_norm(term: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Compute the L2 norm of a term's gradient over all parameters; the graph and `.grad` stay."""
    gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return get_total_norm([gradient for gradient in gradients if gradient is not None])
