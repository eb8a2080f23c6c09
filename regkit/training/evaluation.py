"""Evaluation: a task's outputs over a whole split, and its scores."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import RunError
from regkit.base.failures import ran_out
from regkit.data.order import cut
from regkit.distributed.processes import ALONE, Processes
from regkit.model import MultitaskModel
from regkit.model.modes import autocast, mode
from regkit.tasks.task import Split, Task
from regkit.training.fit import Retry, SmallerError, halved

BUDGET = 16384  # tokens at a time when a finished run is evaluated
Scores = dict[str, dict[str, float]]

MOST_LOGITS = 2**26  # at a time: 256 MiB


def nothing() -> None:
    """What is done between two passes, where nobody asks for more."""


def micro_batches(task: Task, split: Split, budget: int) -> list[Sequence[int]]:
    """Rows of a whole split, like lengths together, in parts of at most `budget` tokens, and of few enough outputs."""
    lengths = task.splits[split].lengths()
    rows = np.argsort(lengths, kind="stable").tolist()  # scores do not depend on it
    return cut(rows, lengths, min(budget, MOST_LOGITS // task.objective.width))  # as if every token were predicted


@torch.no_grad()
def outputs(
    model: MultitaskModel,
    task: Task,
    split: Split,
    *,
    budget: int,
    precision: torch.dtype,
    processes: Processes = ALONE,
    between: Callable[[], None] = nothing,
) -> Tensor:
    """What the objective keeps of the model's output for every example of a split, in the split's order, on the CPU.

    Of several processes each makes some of the passes, and all have the answer. `between` is called before each pass, in all
    processes together; an error that it raises is the way to end this early.
    """
    examples, parts = task.splits[split], micro_batches(task, split, budget)
    device, found = next(model.parameters()).device, None
    with processes.all_or_none(ran_out), mode(model, training=False), autocast(device, precision):
        for _, part, counts in processes.own(parts):
            between()
            batch = examples.batch(part).to(device)
            output = model.predict(task, batch, model.embed(batch)).float()
            evidence = task.objective.evidence(output, batch)
            found = evidence.new_zeros(len(examples), *evidence.shape[1:]) if found is None else found
            if counts:
                found[part] = evidence
    assert found is not None  # a split has examples
    return processes.sum(found).cpu()


def evaluate(
    model: MultitaskModel,
    tasks: Iterable[Task],
    split: Split,
    *,
    budget: int,
    precision: torch.dtype,
    processes: Processes = ALONE,
    between: Callable[[], None] = nothing,
) -> Scores:
    """`scores[task][metric]` for every task that has the split with labels; the rest as in `outputs`."""
    scores: Scores = {}
    for task, labels in scorable(tasks, split):
        output = outputs(model, task, split, budget=budget, precision=precision, processes=processes, between=between)
        scores[task.name] = score(task, output, labels)
    return scores


def scorable(tasks: Iterable[Task], split: Split) -> list[tuple[Task, Tensor]]:
    """The tasks that have the split with labels, and these."""
    found = [(task, task.splits[split].labels) for task in tasks if split in task.splits]
    return [(task, labels) for task, labels in found if labels is not None]


def pieces(tasks: Iterable[Task], split: Split, budget: int) -> list[np.ndarray]:
    """The lengths of the examples of each micro-batch that `evaluate` makes."""
    return [lengths for task, _ in scorable(tasks, split) for lengths in passes(task, split, budget)]


def passes(task: Task, split: Split, budget: int) -> list[np.ndarray]:
    """The same of one task."""
    lengths = task.splits[split].lengths()
    return [lengths[part] for part in micro_batches(task, split, budget)]


def score(task: Task, output: Tensor, labels: Tensor) -> dict[str, float]:
    """The objective's metrics, and the loss. RunError where the model has come apart."""
    if not output.isfinite().all():
        raise RunError(f"task '{task.name}': the model's outputs are no finite numbers; try a lower learning rate.")
    return dict(task.objective.metrics(output, labels))


def mean_score(scores: Mapping[str, Mapping[str, float]], tasks: Iterable[Task]) -> float:
    """The mean over tasks of each objective's own metric; what decides which checkpoint is best."""
    main = [scores[task.name][task.objective.metric] for task in tasks if task.name in scores]
    return float(np.mean(main)) if main else 0.0


def fitting_outputs(model: MultitaskModel, task: Task, split: Split, processes: Processes) -> Tensor:
    """A task's outputs over a split, in smaller passes where memory runs out."""
    budget, retry = BUDGET, Retry()
    while True:
        with retry:
            try:
                return outputs(model, task, split, budget=budget, precision=torch.float32, processes=processes)
            except Exception as error:
                if not ran_out(error):
                    raise
                budget = halved(passes(task, split, budget), f"on task '{task.name}'")
                raise SmallerError from error
