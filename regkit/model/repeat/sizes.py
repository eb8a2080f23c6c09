"""Sizes: bring a batch to one of a few sizes, by sequences behind it that nobody reads."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from regkit.tasks.batch import Batch

# The least step from one size to the next, and the steps of which a power of two has so many below it.
TOKENS, LONGEST = (64, 16), (16, 4)


class Sizes(NamedTuple):
    """The sizes of a batch that work is repeated for."""

    tokens: int
    sequences: int
    longest: int  # tokens that a sequence may have at most


class Rounded(NamedTuple):
    """What a batch of one of the sizes is made of."""

    counts: Tensor  # [sequences] tokens of each sequence
    segments: Tensor  # [tokens]


def sizes_of(lengths: Sequence[int]) -> Sizes:
    """Choose the sizes for sequences of these lengths: the least with room to fill up."""
    tokens, longest = sum(lengths), _up(max(lengths), *LONGEST)
    # So many have room for two steps of tokens, and one is the most that is missing, or two behind a power of two.
    fillers = -(-2 * _step(tokens, *TOKENS) // (longest - 1))
    return Sizes(_up(tokens + fillers, *TOKENS), len(lengths) + fillers, longest)


def rounded(batch: Batch, sizes: Sizes) -> Rounded:
    """Fill a batch up to its sizes, by sequences of about the same length, each with a token at least."""
    missing, fillers = sizes.tokens - len(batch.tokens), sizes.sequences - len(batch.lengths)
    each, more = divmod(missing, fillers)
    numbers = torch.arange(fillers, device=batch.counts.device)
    return Rounded(torch.cat([batch.counts, each + (numbers < more)]), F.pad(batch.segments, (0, missing)))


def batch_of(given: Rounded, sizes: Sizes) -> Batch:
    """Make the batch of these sizes, without reading a number from the device.

    It has no token ids and no labels.
    """
    ends = given.counts.cumsum(0)
    places = torch.arange(sizes.tokens, device=given.counts.device)
    sequence_of = torch.searchsorted(ends, places, right=True)
    starts = ends - given.counts
    return Batch(
        tokens=places,
        segments=given.segments,
        positions=places - starts[sequence_of],
        starts=starts,
        counts=given.counts,
        sequence_of=sequence_of,
        labels=None,
        lengths=(
            sizes.longest,
            *[1] * (sizes.sequences - 1),
        ),  # the device alone knows them; these say: at most, and ragged
        sides=1,
        rows=(),
        keys=(),
    )


def _up(number: int, least: int, parts: int) -> int:
    """Round up to a whole number of steps."""
    step = _step(number, least, parts)
    return -(-number // step) * step


def _step(number: int, least: int, parts: int) -> int:
    """Find the step at a number: a part of the power of two that is not below it."""
    return max(least, (1 << (number - 1).bit_length()) // parts)
