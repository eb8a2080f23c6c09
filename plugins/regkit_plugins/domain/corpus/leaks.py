"""Leaks: find texts of dev and test splits in a corpus, by hashing windows of tokens.

Every window of the corpus is hashed (multilinear hashing: a sum of tokens times random odd numbers, modulo 2**64) and looked
up among the first windows of the texts, first in a table of bits and then in a sorted list. Matches are compared token by
token. Linear in the corpus, which is read once, in chunks.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from regkit_plugins.domain.corpus.cache import TokenCache

WINDOW = 8  # tokens of a text that are enough to look for it within a passage
CHUNK = 1 << 16  # windows hashed at once: three times as fast if they fit a core's own cache
PASSAGES = 1 << 20  # short passages gathered at once
COMPARED = 1 << 22  # tokens compared at once
BITS = 22  # bits of a hash that index the table: 4 MB, of which 10000 texts fill a quarter of a percent


@dataclass(frozen=True)
class Leaks:
    """The texts found, as numbers by name, and the numbers of the passages that hold one, ascending."""

    texts: Mapping[str, Sequence[int]]
    passages: np.ndarray  # [passages that hold one] int64


class _Text(NamedTuple):
    name: str
    number: int
    tokens: np.ndarray


def find_leaks(cache: TokenCache, texts: Mapping[str, Sequence[np.ndarray]], window: int = WINDOW) -> Leaks:
    """Find the texts that occur within a document of the corpus.

    Texts are token ids without special tokens, by name of their split. A text may begin and end anywhere and
    span several passages. A text shorter than `window` counts only if it is a whole passage, since a few words occur
    everywhere. A text without tokens is never found.
    """
    every = [
        _Text(name, number, np.asarray(tokens)) for name, found in texts.items() for number, tokens in enumerate(found)
    ]
    by_length: dict[int, list[_Text]] = defaultdict(list)
    for text in every:
        by_length[min(len(text.tokens), window)].append(text)
    found = {name: set[int]() for name in texts}
    held = np.zeros(cache.passages, bool)
    for length, group in by_length.items():
        if length:
            search = _long if length == window else _short
            for text, passages in search(cache, _Index(group, length)):
                found[text.name].add(text.number)
                held[passages] = True
    return Leaks({name: sorted(numbers) for name, numbers in found.items()}, np.flatnonzero(held))


class _Index:
    """Looks up texts by the hash of their first `length` tokens."""

    def __init__(self, texts: Sequence[_Text], length: int) -> None:
        self.length = length
        self.factors = np.random.default_rng(0).integers(1 << 63, size=length, dtype=np.uint64) * np.uint64(
            2
        ) + np.uint64(1)
        firsts = np.stack([text.tokens[:length] for text in texts]).astype(np.uint64)
        self.keys, which = np.unique(self._hashes(list(firsts.T)), return_inverse=True)
        self.texts: list[list[_Text]] = [[] for _ in self.keys]
        for text, key in zip(texts, which, strict=True):
            self.texts[key].append(text)
        self.table = np.zeros(1 << BITS, bool)
        self.table[self.keys >> np.uint64(64 - BITS)] = True

    def lookup(self, columns: Sequence[np.ndarray]) -> Iterator[tuple[list[_Text], np.ndarray]]:
        """Yield the texts of each hash that occurs, and the windows that have it.

        `columns[j]` holds the j-th token of each window, for j below `length`.
        """
        hashes = self._hashes(columns)
        maybe = np.flatnonzero(self.table[hashes >> np.uint64(64 - BITS)])
        key = np.minimum(np.searchsorted(self.keys, hashes[maybe]), len(self.keys) - 1)
        same = self.keys[key] == hashes[maybe]
        key, windows = key[same], maybe[same]
        order = np.argsort(key, kind="stable")
        bounds = np.flatnonzero(np.diff(key[order], prepend=-1))
        for part in np.split(order, bounds[1:]) if len(order) else ():
            yield self.texts[key[part[0]]], windows[part]

    def _hashes(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        total = columns[0] * self.factors[0]
        product = np.empty_like(total)
        for column, factor in zip(columns[1:], self.factors[1:], strict=True):
            total += np.multiply(column, factor, out=product)
        return np.asarray(total)


def _long(cache: TokenCache, index: _Index) -> Iterator[tuple[_Text, np.ndarray]]:
    """Find texts anywhere in a document. Yields each with the passages that hold a part of it."""
    starts, ends = np.asarray(cache.starts), np.asarray(cache.ends)
    begins = np.concatenate([[True], starts[1:] != ends[:-1]])  # dropped passages leave gaps
    begins[cache.document_offsets[:-1]] = True
    run_starts, run_ends = starts[begins], ends[np.append(np.flatnonzero(begins)[1:] - 1, len(ends) - 1)]
    for first in range(int(starts[0]), int(ends[-1]), CHUNK):
        tokens = cache.tokens[first : first + CHUNK + index.length - 1].astype(np.uint64)
        count = len(tokens) - index.length + 1
        if count <= 0:
            return
        for texts, windows in index.lookup([tokens[place : place + count] for place in range(index.length)]):
            room = run_ends[np.searchsorted(run_starts, first + windows, "right") - 1] - first - windows
            for text in texts:
                places = _equal(cache.tokens, first + windows[room >= len(text.tokens)], text.tokens)
                if len(places):
                    yield text, _touched(starts, places, len(text.tokens))


def _short(cache: TokenCache, index: _Index) -> Iterator[tuple[_Text, np.ndarray]]:
    """Find short texts that are a whole passage. Yields each with these passages."""
    numbers = np.flatnonzero(cache.lengths() == index.length)
    for first in range(0, len(numbers), PASSAGES):
        chunk = numbers[first : first + PASSAGES]
        rows = cache.tokens[cache.starts[chunk][:, None] + np.arange(index.length)]
        for texts, windows in index.lookup(list(rows.T.astype(np.uint64))):
            for text in texts:
                same = (rows[windows] == text.tokens).all(1)
                if same.any():
                    yield text, chunk[windows[same]]


def _equal(tokens: np.ndarray, places: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Return the places where the text really occurs."""
    found = []
    step = max(1, COMPARED // len(text))
    for first in range(0, len(places), step):
        chunk = places[first : first + step]
        found.append(chunk[(tokens[chunk[:, None] + np.arange(len(text))] == text).all(1)])
    return np.concatenate(found) if found else places


def _touched(starts: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """Return the passages that hold a token of the texts that begin at these places."""
    firsts = np.searchsorted(starts, places, "right") - 1
    lasts = np.searchsorted(starts, places + length - 1, "right") - 1
    return np.unique([np.minimum(firsts + more, lasts) for more in range(int((lasts - firsts).max()) + 1)])
