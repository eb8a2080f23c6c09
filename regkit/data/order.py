"""Order: choose the examples of a task's next batch, and cut a batch into micro-batches."""

from collections.abc import Sequence
from typing import overload

import numpy as np

from regkit.base.randomness import derive
from regkit.data.weights import lengths_of, weigh
from regkit.tasks.batch import Batch
from regkit.tasks.task import Dataset, Task

POOL = 50  # batches whose examples are sorted by length together: enough for little padding, few enough to stay random


class Epoch(Sequence[np.ndarray]):
    """The batches of an epoch, each an array of rows: every example once, in four bytes."""

    def __init__(self, rows: np.ndarray, batches: np.ndarray, batch_size: int) -> None:
        self._rows, self._batches, self._size = rows, batches, batch_size

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, place: slice) -> list[np.ndarray]: ...
    def __getitem__(self, place: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        start = int(self._batches[place]) * self._size
        return self._rows[start : start + self._size]


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int) -> Epoch:
    """Draw the batches of one epoch: every example once, texts of similar length together.

    Returns the rows of each batch, batches in random order. An epoch stays an epoch: only the last batch drawn is smaller
    than `batch_size`, and none is left out.
    """
    random = np.random.default_rng(seed)
    rows = np.arange(len(lengths), dtype=np.int32 if len(lengths) < 1 << 31 else np.int64)
    random.shuffle(rows)
    several = POOL * batch_size  # whole batches, so those of a pool begin where one of all does
    for start in range(0, len(rows), several):
        pool = rows[start : start + several]
        pool[:] = pool[np.argsort(lengths[pool], kind="stable")]
    return Epoch(rows, random.permutation(-(-len(rows) // batch_size)), batch_size)


def cut(rows: Sequence[int], weights: np.ndarray, tokens: int, processes: int = 1) -> list[Sequence[int]]:
    """Cut a batch into micro-batches of whole examples, each with a `size` of at most `tokens`.

    `weights` has the tokens that each example of the split counts as. An example that is larger by itself is a micro-batch
    of its own. Several `processes` take turns in the micro-batches, which are then of similar size.
    """
    if processes > 1:
        return _cut_evenly(rows, weights, tokens, processes)
    parts: list[list[int]] = [[]]
    heaviest = 0
    for row in rows:
        heaviest = max(heaviest, int(weights[row]))
        if parts[-1] and heaviest * (len(parts[-1]) + 1) > tokens:
            parts.append([])
            heaviest = int(weights[row])
        parts[-1].append(row)
    return list(parts)


def _cut_evenly(rows: Sequence[int], weights: np.ndarray, tokens: int, processes: int) -> list[Sequence[int]]:
    """Cut a batch into micro-batches of similar size, the same number for each process.

    If that does not make them small enough, each example is a micro-batch of its own.
    """
    ordered = sorted(rows, key=lambda row: int(weights[row]))
    for number in range(processes, len(rows) + 1, processes):
        parts: list[Sequence[int]] = [ordered[first::number] for first in range(number)]
        if all(size(weights[part]) <= tokens for part in parts):
            return parts
    return [[row] for row in ordered]


def size(weights: Sequence[int] | np.ndarray) -> int:
    """Count the tokens of a micro-batch as if all examples counted as much as the one that counts most.

    In attention, which pads all to the longest, they do.
    """
    return len(weights) * int(max(weights))


class Feed:
    """A task's batches in a stage, numbered from 0.

    Batch n is the same whenever and however often it is asked for, so that a resumed run goes on with the next.
    """

    def __init__(self, task: Task, seed: int, stage: str, *, bucketing: bool = True, square: float = 0.0) -> None:
        self.task, self.seed, self.stage = task, seed, stage
        self.examples: Dataset = task.splits["train"]
        self.lengths, self.weights = self.examples.lengths(), weigh(lengths_of(self.examples), square)
        self._sort_key = self.lengths if bucketing else np.broadcast_to(np.int8(0), len(self.lengths))
        self._epoch: tuple[int, Sequence[np.ndarray]] = (-1, [])

    def rows(self, number: int) -> list[int]:
        """Look up the rows of batch `number`."""
        epoch, place = divmod(number, self.task.batches)
        if self._epoch[0] != epoch:
            key = derive(self.seed, "order", self.stage, self.task.name, epoch)
            self._epoch = (epoch, epoch_order(self._sort_key, self.task.batch_size, key))
        return [int(row) for row in self._epoch[1][place]]

    def micro_batches(self, number: int, tokens: int, processes: int = 1) -> list[Batch]:
        """Pack batch `number` as micro-batches of at most `tokens` each, see `cut`."""
        key = derive(self.seed, "examples", self.stage, self.task.name, number)
        parts = cut(self.rows(number), self.weights, tokens, processes)
        return [self.examples.batch(part, keys=[derive(key, row) for row in part]) for part in parts]
