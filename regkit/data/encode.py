"""Encode: turn texts into the token ids of examples."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from regkit.model.tokenizer import Tokenizer
from regkit.tasks.task import Examples

BATCH = 1 << 20  # characters that are tokenized in one call: enough for every core, and some 100 MB meanwhile
OVERHEAD = 64  # memory that each text costs, in characters


class Encoded(NamedTuple):
    """The sequences of some examples, in flat arrays."""

    tokens: np.ndarray  # [tokens] int32
    segments: np.ndarray  # [tokens] int8: 1 in the second text of a pair that is read together
    lengths: np.ndarray  # [sequences] int64
    truncated: int  # examples that were longer than is read


def tokenized(texts: Sequence[Sequence[str]], tokenizer: Tokenizer, longest: int, *, apart: bool = False) -> Examples:
    """Tokenize texts to examples without labels: `texts[side][row]`, with one side, or the two of a pair.

    A pair is one sequence of at most `longest` tokens, special tokens included, or two if it is read `apart`.
    """
    found = encode(list(zip(*texts, strict=True)), tokenizer, longest, apart)
    offsets = np.concatenate([[0], np.cumsum(found.lengths)])
    return Examples(found.tokens, found.segments, offsets, None, 2 if apart else 1, truncated=found.truncated)


def encode(rows: Sequence[tuple[str, ...]], tokenizer: Tokenizer, longest: int, apart: bool) -> Encoded:
    """Tokenize the texts of each row, one or two, in one call."""
    ids = [tokenizer.encode(side) for side in zip(*rows, strict=True)]
    sequences, truncated = _sequences(ids, tokenizer, longest, apart)
    lengths = np.fromiter((len(tokens) for tokens, _ in sequences), np.int64, len(sequences))
    seconds = np.fromiter((second for _, second in sequences), np.int64, len(sequences))
    tokens = np.fromiter(chain.from_iterable(tokens for tokens, _ in sequences), np.int32, int(lengths.sum()))
    starts = np.cumsum(lengths) - lengths
    segments = np.arange(len(tokens)) >= np.repeat(starts + seconds, lengths)
    return Encoded(tokens, segments.astype(np.int8), lengths, truncated)


def batches(rows: Iterable[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """Gather rows to batches that take little memory when they are tokenized."""
    batch: list[tuple[str, ...]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(map(len, row)) + OVERHEAD
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _sequences(
    texts: list[list[list[int]]], tokenizer: Tokenizer, longest: int, apart: bool
) -> tuple[list[tuple[list[int], int]], int]:
    """Join the texts of each example to sequences of at most `longest` tokens, special tokens included.

    Returns each sequence with the index where its second text begins, and the number of truncated examples.
    """
    sequences: list[tuple[list[int], int]] = []
    truncated = 0
    for parts in zip(*texts, strict=True):
        groups = [[part] for part in parts] if apart else [list(parts)]
        fitted = [_fit(group, longest - tokenizer.room(len(group))) for group in groups]
        truncated += fitted != groups
        sequences += map(tokenizer.join, fitted)
    return sequences, truncated


def _fit(parts: list[list[int]], room: int) -> list[list[int]]:
    """Truncate a text, or the two of a pair, to at most `room` tokens in all.

    Tokens are cut from the end; of a pair, the longer text loses them first, and then both alike.
    """
    if len(parts) == 1:
        return [parts[0][:room]]
    first, second = parts
    keep_first = max(room - len(second), room - room // 2)
    keep_second = max(room - len(first), room // 2)
    return [first[:keep_first], second[:keep_second]]
