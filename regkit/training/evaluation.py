"""Evaluation: compute a task's outputs over a split, and its scores."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import RunError
from regkit.distributed.processes import ALONE, Processes
from regkit.hooks.blame import blamed
from regkit.model import MultitaskModel
from regkit.model.modes import autocast, mode
from regkit.model.repeat.repeated import one_by_one
from regkit.tasks.objectives import Objective
from regkit.tasks.task import Split, Task, scorable
from regkit.training.caveats import one_sided
from regkit.training.fit import Fit
from regkit.training.sample import Rows

Scores = dict[str, dict[str, float]]  # by task and metric

MOST_LOGITS = 2**26  # at a time: 256 MiB


@dataclass
class Evaluator:
    """Scores a model in passes that fit in memory; several processes share them and all have the answer."""

    fit: Fit = field(default_factory=Fit)
    precision: torch.dtype = torch.float32
    processes: Processes = ALONE
    between: Callable[[], None] = lambda: None  # called before each pass in all processes; an error ends the evaluation
    caveats: list[str] = field(default_factory=list, init=False)  # what the latest scores do not show
    seconds: float = field(default=0.0, init=False)  # that `scores` has taken, by the clock

    @torch.no_grad()
    def outputs(self, model: MultitaskModel, task: Task, split: Split, rows: np.ndarray | None = None) -> Tensor:
        """Compute what the objective keeps of the output for each example of a split, in order, on the CPU.

        With `rows`, those examples alone.
        """
        examples, device = task.splits[split], model.device
        rows = np.arange(len(examples)) if rows is None else rows
        by_length = np.argsort(examples.lengths()[rows], kind="stable")  # texts of like length together: less padding
        ordered = rows[by_length].tolist()
        parts = self.fit.cut(ordered, examples, MOST_LOGITS // task.objective.width)  # as if every token were predicted
        found = None
        with (
            self.processes.all_or_none(),
            built(model, task),
            mode(model, training=False),
            one_by_one(),  # as where a trained model is scored again
            autocast(device, self.precision),
        ):
            for _, part, counts in self.processes.own(parts):
                self.between()
                batch = examples.batch(part).to(device)
                output = model.predict(task, batch, model.embed(batch)).float()
                evidence = task.objective.evidence(output, batch)
                found = evidence.new_zeros(len(examples), *evidence.shape[1:]) if found is None else found
                if counts:
                    found[part] = evidence
        assert found is not None  # a split has examples
        return self.processes.sum(found).cpu()[torch.from_numpy(rows)]

    def scores(self, model: MultitaskModel, tasks: Iterable[Task], split: Split, sample: Rows | None = None) -> Scores:
        """Score every task that has the split with labels, or a sample of it: `scores[task][metric]`.

        Notes what the scores of a whole split do not show.
        """
        found, caveats, began = {}, [], time.monotonic()
        for task, labels in scorable(tasks, split):
            rows = None if sample is None else sample[task.name]
            output = self.outputs(model, task, split, rows)
            found[task.name] = score(task, output, labels if rows is None else labels[torch.from_numpy(rows)])
            if rows is None and (said := one_sided(task, split, output)):
                caveats.append(said)
        self.caveats = caveats
        self.seconds += time.monotonic() - began
        return found


def built(model: MultitaskModel, task: Task) -> AbstractContextManager[None]:
    """Name the plugins that changed a model's modules, if any did, where it fails to answer for a task."""
    plugins = model.built.plugins if model.built else ()
    owners = [
        f"plugin '{name}' builds (in place of a head or layer that it takes away it needs another)" for name in plugins
    ]
    return blamed(lambda: f"the model's answer for task '{task.name}'", lambda: owners)


def score(task: Task, output: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute the objective's metrics, and the loss. Raises RunError if an output is not finite."""
    if not output.isfinite().all():
        raise RunError(f"task '{task.name}': the model's outputs are not finite; try a lower learning rate.")
    return dict(task.objective.metrics(output, labels))


def mean_score(scores: Mapping[str, Mapping[str, float]], tasks: Iterable[Task]) -> float:
    """Compute the mean over tasks of each objective's own metric: it decides which checkpoint is best.

    A metric of which less is better counts with its sign turned. A task whose labels do not define its metric does not
    count. If there is no other, the lowest mean loss decides.
    """
    own = {task.name: task.objective for task in tasks}
    main = [
        higher_is_better(own[name], own[name].metric, values)
        for name, values in scores.items()
        if own[name].metric in values
    ]
    losses = [-values["loss"] for values in scores.values()]
    return float(np.mean(main or losses or [0.0]))


def higher_is_better(objective: Objective, metric: str, values: Mapping[str, float]) -> float:
    """Look up a score, with its sign turned if less of it is better."""
    return -values[metric] if objective.scores[metric].lower_is_better else values[metric]
