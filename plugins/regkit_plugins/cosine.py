"""Cosine: lower the learning rate along half a cosine after the warm-up (Loshchilov, Hutter, 2017).

Equation 5 of arXiv 1608.03983, for one period without a restart: the rate falls slowly at first, fastest in the middle, and
slowly at the end. The warm-up is that of the stage.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from regkit import Share, Stage, Tuned, hookimpl


@dataclass
class Cosine:
    end: Annotated[Share, Tuned(0, 0.3)] = 0.0
    """Learning rate at the end, as a share of the peak."""

    @hookimpl
    def schedule(self, stage: Stage, step: int, total_steps: int) -> float:
        warmup = stage.warmup * total_steps
        done = max(step - warmup, 0) / max(total_steps - warmup, 1)
        falling = self.end + (1 - self.end) * (1 + math.cos(math.pi * done)) / 2
        return min(stage.warming(step, total_steps), falling)
