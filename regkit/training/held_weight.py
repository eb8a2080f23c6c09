"""Held weight: hold terms of the loss at a share of the gradient between two measurements."""

from collections.abc import Sequence
from math import exp, log
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

MOST = 1e6  # weight: a teacher is a mere copy at first, and its term has hardly a gradient
LEAST = 1e-30  # weight, and size of a term that counts; less is 0 for float32 before long, and has no logarithm


class Measured(NamedTuple):
    """What one process found in a batch."""

    weight: float  # that would have held the share
    size: float  # of the plugin's terms together, before they are weighed; 0: none that float32 holds


class Held(NamedTuple):
    """The weight of a plugin's terms on a task. A size is that of the terms before they are weighed.

    It is a geometric mean in which the last batch has half, and none of terms that have always been 0. As a scalar it stays
    where the losses are: nothing waits for a GPU.
    """

    measured: float  # when it was measured last
    then: Tensor | None = None  # the size
    now: Tensor | None = None

    @property
    def present(self) -> float | Tensor:
        """The weight in the next update: as much less than was measured as the terms have grown.

        Not more where they have shrunk: a term that makes all answers the same would be pressed the harder for it.
        """
        if self.then is None or self.now is None:
            return self.measured
        return self.measured * (self.then / self.now).clamp(LEAST, 1.0)

    def resized(self, weighed: Tensor) -> "Held":
        """Learn from the terms of an update, as they were weighed in it, how large they are by now."""
        if self.now is None:
            return self
        grown = (weighed.abs().to(self.now.dtype) / self.present / self.now).sqrt()  # a checkpoint keeps float32
        return self._replace(now=self.now * grown.where((grown > 0) & grown.isfinite(), 1.0))


def following(held: Held | None, found: Sequence[Measured], share: float) -> Held:
    """Let a weight go such a share of the way, in logarithms, to what was measured; a new one all of it."""
    goal, now = fmean(log(each.weight) for each in found), held.now if held else None
    if all(each.size for each in found):
        size = fmean(log(each.size) for each in found)
        now = torch.tensor(exp(size)) if now is None else now
        goal += size - log(now)  # the batches measured stand for others, which are of the usual size
    before = log(held.present) if held else goal
    return Held(exp(min(max(before + share * (goal - before), log(LEAST)), log(MOST))), now, now)
