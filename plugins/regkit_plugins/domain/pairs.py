"""Pairs: predict whether a passage follows another one (Devlin et al., 2019, section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from regkit import Batch, Tokenizer, derive
from regkit_plugins.domain.corpus import TokenCache
from regkit_plugins.domain.masking import runs


@dataclass
class Pairs:
    """Pairs of consecutive passages; half the time the second is any passage of another document."""

    cache: TokenCache
    tokenizer: Tokenizer
    room: int
    ids: ClassVar[Sequence[str]] = ()
    truncated: ClassVar[int] = 0

    @cached_property
    def firsts(self) -> np.ndarray:
        """The first passage of each pair: `[pairs]`.

        These are the first, third, ... passage of each document if another follows, so that no passage is in two pairs.
        """
        offsets = runs(self.cache)
        place = np.arange(self.cache.passages) - np.repeat(offsets[:-1], np.diff(offsets))  # in its run
        follows = np.ones(self.cache.passages, bool)
        follows[offsets[1:] - 1] = False
        return np.flatnonzero(follows & (place % 2 == 0))

    @cached_property
    def short(self) -> int:
        """The number of documents without a pair: no two consecutive passages are left in them."""
        return len(self.cache) - len(np.unique(np.searchsorted(self.cache.document_offsets, self.firsts, side="right")))

    @cached_property
    def labels(self) -> torch.Tensor:
        """The labels without keys: 0 if the second passage follows, 1 if it is from another document."""
        return torch.tensor([self.pair(row, derive(0, "scored", row))[2] for row in range(len(self))])

    def __len__(self) -> int:
        return len(self.firsts)

    def lengths(self) -> np.ndarray:
        """Return the lengths of the pairs that follow; the others are about as long."""
        lengths = self.cache.lengths()
        both = lengths[self.firsts] + lengths[self.firsts + 1] + self.tokenizer.room(2)
        return np.asarray(np.minimum(both, self.room))

    def pair(self, row: int, key: int) -> tuple[int, int, int]:
        """Draw a pair: the numbers of both passages, and the label."""
        first, random = int(self.firsts[row]), np.random.default_rng(derive(key, "pair"))
        if random.random() < 0.5:
            return first, first + 1, 0
        document = self.cache.document(int(np.searchsorted(self.cache.document_offsets, first, side="right")) - 1)
        other = int(random.integers(self.cache.passages - len(document)))
        return first, other if other < document.start else other + len(document), 1

    def batch(self, rows: Sequence[int], keys: Sequence[int] = ()) -> Batch:
        """Make a batch of pairs. Without keys, in evaluation, a row always has the same second passage."""
        sequences, segments, labels = [], [], []
        for row, key in zip(rows, keys or [derive(0, "scored", row) for row in rows], strict=True):
            one, other, label = self.pair(row, key)
            room = self.room - self.tokenizer.room(2)
            texts = fit(self.cache.passage(one), self.cache.passage(other), room)
            sequence, begins = self.tokenizer.join([text.tolist() for text in texts])
            sequences.append(np.array(sequence))
            segments.append(np.arange(len(sequence)) >= begins)
            labels.append(label)
        return Batch.pack(sequences, segments, labels=torch.tensor(labels), rows=rows, keys=keys)

    def digest(self) -> bytes:
        return self.cache.digest()


def fit(first: np.ndarray, second: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut both passages at their ends to at most `room` tokens, first the longer one, then both equally."""
    kept = max(room - len(second), room - room // 2)
    return first[:kept], second[: max(room - len(first), room // 2)]
