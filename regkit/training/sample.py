"""Sample: choose the dev examples scored before the first update, at a small share of the cost."""

from collections.abc import Mapping, Sequence

import numpy as np

from regkit.tasks.task import Task, scorable

SHARE = 0.02  # of what training costs
PASSES = 2  # forward passes that an update takes at least: its own, and one back through weights that may be frozen
SEED = 0  # runs of other seeds are scored on the same examples

Rows = Mapping[str, np.ndarray]  # by task


def choose_sample(tasks: Sequence[Task], updates: int, *, frozen: bool = False) -> Rows | None:
    """Choose rows of each dev split, at random, that cost at most 2 % of a stage of so many `updates`.

    Tokens of forward passes are counted, not seconds, so that a run is the same each time. Tasks have equal shares of them,
    and each has one example at least. With a `frozen` encoder there is no pass back. None stands for whole splits: they cost
    no more than that.
    """
    lengths = {task.name: task.splits["dev"].lengths() for task, _ in scorable(tasks, "dev")}
    tokens = SHARE * (1 if frozen else PASSES) * updates * _tokens_of_a_batch(tasks)
    if sum(int(each.sum()) for each in lengths.values()) <= tokens:
        return None
    return {name: _within(tokens / len(lengths), each) for name, each in lengths.items()}


def _tokens_of_a_batch(tasks: Sequence[Task]) -> float:
    """Compute the mean over all batches of an epoch."""
    return sum(int(task.splits["train"].lengths().sum()) for task in tasks) / sum(task.batches for task in tasks)


def _within(tokens: float, lengths: np.ndarray) -> np.ndarray:
    """Draw rows of at most so many tokens together, in their order; one at least."""
    order = np.random.default_rng(SEED).permutation(len(lengths))
    count = np.searchsorted(np.cumsum(lengths[order]), tokens, side="right")
    return np.sort(order[: max(int(count), 1)])
