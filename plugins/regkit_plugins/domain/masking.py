"""Masking: sequences of a corpus, of which some tokens are to be found again (Devlin et al., NAACL 2019, appendix A.1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import ClassVar

import numpy as np
import torch

from regkit import Batch, Tokenizer, derive
from regkit_plugins.domain.corpus import TokenCache


class Words:
    """Chooses which tokens are to be found again, and what stands in their place."""

    def __init__(self, tokenizer: Tokenizer, count: int, share: float, whole: bool) -> None:
        self.cls, self.sep, self.mask = tokenizer.cls, tokenizer.sep, tokenizer.mask
        self.count, self.share, self.whole = count, share, whole
        vocabulary = tokenizer.vocabulary()
        self.special = np.zeros(count, bool)
        self.special[[number for word, number in vocabulary.items() if word.startswith("[") and word.endswith("]")]] = (
            True
        )
        self.inside = np.zeros(count, bool)  # of a word: its second piece and those after it
        self.inside[[number for word, number in vocabulary.items() if word.startswith("##")]] = True

    def choose(self, tokens: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Places of the tokens to find again, ascending: a share of those that are not special, and one at least."""
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
        """The tokens with [MASK] at eight places of ten, any word at one, and what was there at one."""
        hidden, draws = tokens.copy(), random.random(len(places))
        hidden[places[draws < 0.8]] = self.mask
        others = places[draws >= 0.9]
        hidden[others] = random.integers(self.count, size=len(others))
        return hidden


@dataclass
class MaskedTexts:
    """Sequences of whole passages of one document each, as long as they fit; a longer passage is cut in pieces."""

    cache: TokenCache
    words: Words
    room: int  # tokens of a sequence, special ones included
    ids: ClassVar[Sequence[str]] = ()
    cut: ClassVar[int] = 0

    @cached_property
    def spans(self) -> np.ndarray:
        """[sequences, 2] from which of the cache's tokens up to which."""
        return np.fromiter(chain.from_iterable(spans(self.cache, self.room - 2)), np.int64).reshape(-1, 2)

    @property
    def labels(self) -> torch.Tensor:
        """One a sequence, of no meaning: what is to be found is drawn with the masks."""
        return torch.zeros(len(self), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.spans)

    def lengths(self) -> np.ndarray:
        return np.asarray(self.spans[:, 1] - self.spans[:, 0] + 2)

    def sequence(self, row: int) -> np.ndarray:
        """The tokens of a row as they are, special ones included: int64."""
        tokens = self.cache.tokens[slice(*self.spans[row])]
        return np.concatenate([[self.words.cls], tokens, [self.words.sep]]).astype(np.int64)

    def batch(self, rows: Sequence[int], keys: Sequence[int] = ()) -> Batch:
        """Without keys, in evaluation, a row has the same masks every time."""
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


def runs(cache: TokenCache) -> np.ndarray:
    """[runs + 1] where passages begin that follow one another: at a document, and after one that was left out."""
    gaps = np.flatnonzero(cache.starts[1:] != cache.ends[:-1]) + 1
    return np.append(np.union1d(cache.document_offsets[:-1], gaps), cache.passages)


def spans(cache: TokenCache, room: int) -> Iterator[tuple[int, int]]:
    """Each document in stretches of whole passages, each of at most `room` tokens."""
    starts, all_ends = np.asarray(cache.starts), np.asarray(cache.ends)
    for first, last in pairwise(runs(cache)):
        start, ends = int(starts[first]), all_ends[first:last]
        while start < ends[-1]:
            fits = int(np.searchsorted(ends, start + room, side="right"))
            end = int(ends[fits - 1]) if fits and ends[fits - 1] > start else start + room
            yield start, end
            start = end
