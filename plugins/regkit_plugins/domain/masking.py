"""Masking: hide some tokens of a corpus, to be predicted (Devlin et al., 2019, appendix A.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import ClassVar

import numpy as np
import torch

from regkit import Batch, PluginError, Tokenizer, derive
from regkit_plugins.domain.corpus import TokenCache

CHUNK = 1 << 20  # tokens looked at together


class Words:
    """Chooses the tokens to predict, and what replaces them in the input."""

    def __init__(self, tokenizer: Tokenizer, count: int, share: float, whole: bool) -> None:
        self.tokenizer, self.mask = tokenizer, tokenizer.mask
        self.count, self.share, self.whole = count, share, whole
        self.special = np.zeros(count, bool)
        self.special[list(tokenizer.special())] = True
        self.inside = np.zeros(count, bool)  # pieces of a word after its first
        if whole:
            self.inside[pieces_inside(tokenizer)] = True

    def any_in(self, tokens: np.ndarray) -> bool:
        """Whether a token can be predicted: `[tokens]`, of any length."""
        return any(not self.special[tokens[at : at + CHUNK]].all() for at in range(0, len(tokens), CHUNK))

    def choose(self, tokens: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Choose the places of tokens to predict, ascending: a share of the ordinary tokens, at least one."""
        candidates = np.flatnonzero(~self.special[tokens])
        wanted = min(len(candidates), max(1, round(self.share * len(candidates))))
        if not (self.whole and wanted):
            return np.sort(random.choice(candidates, wanted, replace=False))
        begins = candidates[~self.inside[tokens[candidates]] | (candidates == candidates[0])]
        words = np.split(candidates, np.searchsorted(candidates, begins[1:]))
        order = [words[number] for number in random.permutation(len(words))]
        sizes = np.cumsum([len(word) for word in order])
        enough = int(np.searchsorted(sizes, wanted)) + 1  # the last word may bring a piece too many
        return np.sort(np.concatenate(order[:enough]))

    def hide(self, tokens: np.ndarray, places: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Replace the chosen tokens: 80 % by the mask, 10 % by any word; 10 % stay."""
        hidden, draws = tokens.copy(), random.random(len(places))
        hidden[places[draws < 0.8]] = self.mask
        others = places[draws >= 0.9]
        hidden[others] = random.integers(self.count, size=len(others))
        return hidden


@dataclass
class MaskedTexts:
    """Sequences that hold as many whole passages of one document as fit; a longer passage is cut."""

    cache: TokenCache
    words: Words
    room: int  # tokens of a sequence, special ones included
    ids: ClassVar[Sequence[str]] = ()
    truncated: ClassVar[int] = 0

    @cached_property
    def spans(self) -> np.ndarray:
        """The start and end of each sequence in the cache's tokens: `[sequences, 2]`."""
        return np.fromiter(
            chain.from_iterable(spans(self.cache, self.room - self.words.tokenizer.room(1))), np.int64
        ).reshape(-1, 2)

    @property
    def labels(self) -> torch.Tensor:
        """Zeros, one for each sequence; the true labels are drawn with the masks."""
        return torch.zeros(len(self), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.spans)

    def lengths(self) -> np.ndarray:
        return np.asarray(self.spans[:, 1] - self.spans[:, 0] + self.words.tokenizer.room(1))

    def sequence(self, row: int) -> np.ndarray:
        """Return the unmasked tokens of a row, special ones included: int64."""
        tokens = self.cache.tokens[slice(*self.spans[row])]
        return np.array(self.words.tokenizer.join([tokens.tolist()])[0], np.int64)

    def batch(self, rows: Sequence[int], keys: Sequence[int] = ()) -> Batch:
        """Make a batch of masked sequences. Without keys, in evaluation, a row always has the same masks."""
        words, shown, places, labels, before = self.words, [], [], [], 0
        for row, key in zip(rows, keys or [derive(0, "scored", row) for row in rows], strict=True):
            random = np.random.default_rng(derive(key, "masks"))
            tokens = self.sequence(row)
            chosen = words.choose(tokens, random)
            shown.append(words.hide(tokens, chosen, random))
            places.append(before + chosen)
            labels.append(tokens[chosen])
            before += len(tokens)
        return Batch.pack(
            shown,
            [np.zeros(len(tokens), np.int8) for tokens in shown],
            labels=torch.from_numpy(np.concatenate(labels)),
            rows=rows,
            keys=keys,
            targets=torch.from_numpy(np.concatenate(places)),
        )

    def digest(self) -> bytes:
        return self.cache.digest()


def pieces_inside(tokenizer: Tokenizer) -> list[int]:
    """List the pieces that continue a word.

    Raises PluginError if the tokenizer does not mark where words begin.
    """
    backend, words = tokenizer.backend, tokenizer.vocabulary().items()
    if prefix := getattr(backend.model, "continuing_subword_prefix", None):  # WordPiece marks what continues a word
        return [number for word, number in words if word.startswith(prefix)]
    parts = [part.__getstate__().decode() for part in (backend.normalizer, backend.pre_tokenizer) if part is not None]
    marks = {"ByteLevel": "\u0120", "\u2581": "\u2581"}  # others mark the space before a word
    for part, mark in marks.items():
        if any(part in state for state in parts):
            return [number for word, number in words if not word.startswith(mark)]
    raise PluginError("'domain' has whole_words, but this encoder's tokenizer does not mark where words begin.")


def runs(cache: TokenCache) -> np.ndarray:
    """Find where runs of consecutive passages begin: `[runs + 1]`.

    A run begins with a document, and after a passage that was dropped.
    """
    gaps = np.flatnonzero(cache.starts[1:] != cache.ends[:-1]) + 1
    return np.append(np.union1d(cache.document_offsets[:-1], gaps), cache.passages)


def spans(cache: TokenCache, room: int) -> Iterator[tuple[int, int]]:
    """Split each document into spans of whole passages with at most `room` tokens."""
    starts, all_ends = np.asarray(cache.starts), np.asarray(cache.ends)
    for first, last in pairwise(runs(cache)):
        start, ends = int(starts[first]), all_ends[first:last]
        while start < ends[-1]:
            fits = int(np.searchsorted(ends, start + room, side="right"))
            end = int(ends[fits - 1]) if fits and ends[fits - 1] > start else start + room
            yield start, end
            start = end
