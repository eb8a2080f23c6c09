"""Tasks and stages: what is learned, from which examples, for how long."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from regkit.tasks.batch import Batch
from regkit.tasks.names import FINETUNE, PairMode, Split
from regkit.tasks.objectives import Objective

__all__ = ["FINETUNE", "Dataset", "Examples", "PairMode", "Split", "Stage", "Task"]


class Dataset(Protocol):
    """One split of a task: rows of token ids that are packed into batches. `Examples` is the usual one."""

    @property
    def labels(self) -> Tensor | None:
        """`[examples]`; None where the split has none, and cannot be scored."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """`[examples]` for prediction files."""
        ...

    @property
    def cut(self) -> int:
        """How many examples were longer than the encoder reads."""
        ...

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def lengths(self) -> np.ndarray:
        """`[examples]` tokens of each."""
        ...

    def batch(self, rows: Sequence[int], keys: Sequence[int] = ()) -> Batch:
        """These examples, packed. In training each has a key of its own for the update: whatever is drawn comes from it."""
        ...

    def digest(self) -> bytes:
        """The same for the same examples only: a run that goes on must find what it began with."""
        ...


@dataclass(frozen=True)
class Examples:
    """One split of a task as token ids: flat arrays, cut by offsets into the sequences the encoder reads."""

    tokens: np.ndarray  # [all tokens] token ids, special tokens included
    segments: np.ndarray  # [all tokens]
    offsets: np.ndarray  # [sequences + 1]
    labels: Tensor | None  # [examples]; None where the split has none
    sides: int = 1  # sequences of each example
    ids: Sequence[str] = ()  # [examples] for prediction files
    cut: int = 0  # examples that were longer than the encoder reads

    def __len__(self) -> int:
        return (len(self.offsets) - 1) // self.sides

    def lengths(self) -> np.ndarray:
        """[examples] tokens of each example, both sides together."""
        return np.diff(self.offsets[:: self.sides])

    def batch(self, rows: Sequence[int], keys: Sequence[int] = ()) -> Batch:
        """These examples, packed; `keys` are for `Batch.noise`."""
        sequences = [row * self.sides + side for row in rows for side in range(self.sides)]
        spans = [slice(self.offsets[sequence], self.offsets[sequence + 1]) for sequence in sequences]
        return Batch.pack(
            [self.tokens[span] for span in spans],
            [self.segments[span] for span in spans],
            labels=None if self.labels is None else self.labels[torch.as_tensor(rows)],
            sides=self.sides,
            rows=rows,
            keys=keys,
        )

    def digest(self) -> bytes:
        """SHA-256 of tokens and labels."""
        digest = hashlib.sha256()
        labels = np.empty(0) if self.labels is None else self.labels.numpy()
        for values in (self.tokens, self.segments, self.offsets, labels):
            digest.update(np.ascontiguousarray(values).data)
        return digest.digest()


@dataclass(frozen=True)
class Task:
    """A name, its data, an objective; a head of the same name belongs to it."""

    name: str
    objective: Objective
    splits: Mapping[Split, Dataset]
    pair_mode: PairMode | None = None  # None: one text
    batch_size: int = 32
    head_names: Mapping[str, str] = field(default_factory=dict)  # of its head's tensors in others' checkpoints
    notes: Sequence[str] = ()  # what the plan shall say of its data

    @property
    def batches(self) -> int:
        """Batches in an epoch, the last of which may be smaller."""
        return -(-len(self.splits["train"]) // self.batch_size)


@dataclass(frozen=True)
class Stage:
    """A span of training with its own tasks, learning rate and trainable part."""

    name: str
    tasks: Sequence[str]
    epochs: int = 3
    steps: int | None = None  # optimizer updates; None trains for whole epochs
    learning_rate: float = 5e-5  # at the peak of the schedule
    warmup: float = (
        0.1  # share of the steps in which the learning rate rises, before it falls to 0, both in a straight line
    )
    weight_decay: float = 0.01  # not on biases and layer norms
    trainable: Literal["all", "heads"] = "all"


def scorable(tasks: Iterable[Task], split: Split) -> list[tuple[Task, Tensor]]:
    """Find the tasks that have the split with labels, and these."""
    found = [(task, task.splits[split].labels) for task in tasks if split in task.splits]
    return [(task, labels) for task, labels in found if labels is not None]
