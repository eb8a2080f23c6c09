"""Tasks and stages: what is learned, from which examples, for how long."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from regkit.tasks.batch import Batch
from regkit.tasks.names import FINETUNE, PairMode, Pooling, Split
from regkit.tasks.objectives import Objective
from regkit.tasks.reading import Reading

__all__ = ["FINETUNE", "Dataset", "Examples", "PairMode", "Pooling", "Reading", "Split", "Stage", "Task"]


class Dataset(Protocol):
    """One split of a task: rows of token ids that are packed into batches. `Examples` is the usual one."""

    @property
    def labels(self) -> Tensor | None:
        """Return the labels, `[examples]` or `[examples, classes]`; None for a split without labels.

        Such a split cannot be scored.
        """
        ...

    @property
    def ids(self) -> Sequence[str]:
        """The name of each example in prediction files, `[examples]`."""
        ...

    @property
    def truncated(self) -> int:
        """The number of examples that were truncated: they were longer than the encoder reads."""
        ...

    def __len__(self) -> int:
        """Count the examples."""
        ...

    def lengths(self) -> np.ndarray:
        """Count the tokens of each example, both sides of a pair together: `[examples]`."""
        ...

    def batch(self, rows: Sequence[int], keys: Sequence[int] = ()) -> Batch:
        """Pack these examples into a batch.

        In training each example has a key of its own for the update, and everything random is derived from it.
        """
        ...

    def digest(self) -> bytes:
        """Compute a hash of the examples, so that a resumed run can check that they are those it began with."""
        ...


@dataclass(frozen=True)
class Examples:
    """One split of a task as token ids, in flat arrays that `offsets` divide into sequences."""

    tokens: np.ndarray  # [all tokens] token ids, special tokens included
    segments: np.ndarray  # [all tokens]
    offsets: np.ndarray  # [sequences + 1]
    labels: Tensor | None  # [examples], or [examples, classes]; None for a split without labels
    sides: int = 1  # sequences of each example: 1, or 2 for a pair read apart
    ids: Sequence[str] = ()  # [examples] names in prediction files
    truncated: int = 0  # examples that were longer than the encoder reads
    texts: Sequence[tuple[str, ...]] = ()  # [examples] one text each, or two; kept only where a report shows them
    unlabelled: Sequence[
        int
    ] = ()  # rows of a test split without a label: predicted, not scored; `labels` has any there

    def __len__(self) -> int:
        return (len(self.offsets) - 1) // self.sides

    def lengths(self) -> np.ndarray:
        """Count the tokens of each example, both sides of a pair together: `[examples]`, in four bytes each."""
        bounds = self.offsets[:: self.sides]
        return np.asarray(np.subtract(bounds[1:], bounds[:-1], dtype=np.int32, casting="same_kind"))

    def sequence_lengths(self) -> np.ndarray:
        """Count the tokens of each sequence of each example: `[examples, sides]`, in four bytes each."""
        found = np.subtract(self.offsets[1:], self.offsets[:-1], dtype=np.int32, casting="same_kind")
        return np.asarray(found).reshape(-1, self.sides)

    def batch(self, rows: Sequence[int], keys: Sequence[int] = ()) -> Batch:
        """Pack these examples into a batch; `Batch.noise` is derived from `keys`."""
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

    @property
    def labelled_rows(self) -> list[int]:
        """The rows that have a label."""
        missing = set(self.unlabelled)
        return [row for row in range(len(self)) if row not in missing]

    def labelled(self) -> "Examples":
        """Select the examples that have a label."""
        return self.only(self.labelled_rows) if self.unlabelled else self

    def only(self, rows: Sequence[int]) -> "Examples":
        """Select these rows."""
        sequences = (np.asarray(rows, np.int64)[:, None] * self.sides + np.arange(self.sides)).reshape(-1)
        offsets = np.concatenate([[0], np.cumsum(self.offsets[sequences + 1] - self.offsets[sequences])])
        missing = set(self.unlabelled)
        return replace(
            self,
            tokens=self._gather(self.tokens, sequences, offsets),
            segments=self._gather(self.segments, sequences, offsets),
            offsets=offsets,
            labels=None if self.labels is None else self.labels[torch.as_tensor(rows)],
            ids=_chosen(self.ids, rows),
            texts=_chosen(self.texts, rows),
            unlabelled=[place for place, row in enumerate(rows) if row in missing],
        )

    def _gather(self, values: np.ndarray, sequences: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Copy what belongs to these sequences, to where the new offsets say."""
        found = np.empty(offsets[-1], values.dtype)
        for sequence, start, stop in zip(sequences, offsets[:-1], offsets[1:], strict=True):
            found[start:stop] = values[self.offsets[sequence] : self.offsets[sequence + 1]]
        return found

    def digest(self) -> bytes:
        """Compute the SHA-256 of tokens and labels."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        digest = hashlib.sha256()
        labels = np.empty(0) if self.labels is None else self.labels.numpy()
        for values in (self.tokens, self.segments, self.offsets, labels):
            digest.update(np.ascontiguousarray(values).data)
        return digest.digest()

    def known_by(self, digest: bytes) -> "Examples":
        """Take a digest that was computed of these arrays before: they need not be read again for it."""
        vars(self)["_digest"] = digest
        return self


def _chosen(values: Sequence[Any], rows: Sequence[int]) -> Sequence[Any]:
    """Choose items of a sequence. One that can choose by itself holds them in less than Python's objects."""
    choose = getattr(values, "only", None)
    return choose(rows) if choose else [values[row] for row in rows] if values else ()


@dataclass(frozen=True)
class Task:
    """What is learned from which examples: a name, data and an objective.

    The model has a head of the same name for it.
    """

    name: str
    objective: Objective
    splits: Mapping[Split, Dataset]
    pair_mode: PairMode | None = None  # None: a single text
    batch_size: int = 32
    head_names: Mapping[str, str] = field(
        default_factory=dict
    )  # our names of its head's tensors to those in checkpoints
    notes: Sequence[str] = ()  # sentences about its data that the plan prints
    pooling: Pooling | None = None  # None: that of the model
    reading: Reading = field(default_factory=Reading)

    @property
    def batches(self) -> int:
        """The number of batches in an epoch, one of which may be smaller."""
        return -(-len(self.splits["train"]) // self.batch_size)


@dataclass(frozen=True)
class Stage:
    """A part of training with its own tasks, learning rate and trainable weights."""

    name: str
    tasks: Sequence[str]
    epochs: int = 3
    steps: int | None = None  # optimizer updates; None trains for whole epochs
    learning_rate: float = 5e-5  # at the peak of the schedule
    warmup: float = 0.1  # share of the steps in which the learning rate rises to its peak
    weight_decay: float = 0.01  # not on biases and layer norms
    trainable: Literal["all", "heads"] = "all"

    def warming(self, step: int, total_steps: int) -> float:
        """Compute the factor of the warm-up on the learning rate: it rises in a straight line to 1."""
        return min((step + 1) / max(self.warmup * total_steps, 1), 1.0)


def scorable(tasks: Iterable[Task], split: Split) -> list[tuple[Task, Tensor]]:
    """Find the tasks that have labels in this split; return each task with its labels."""
    found = [(task, task.splits[split].labels) for task in tasks if split in task.splits]
    return [(task, labels) for task, labels in found if labels is not None]
