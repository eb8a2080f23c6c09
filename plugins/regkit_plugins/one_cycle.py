"""One cycle: raise the learning rate to a peak, then lower it below its start (Smith and Topin, 2019).

Section 3 of arXiv 1708.07120, in the form of torch's OneCycleLR: both halves run along a cosine. The rate rises in the
stage's warm-up, for which 0.3 is usual. The momentum stays as it is: AdamW's is not cycled.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from regkit import PluginError, Share, Stage, Tuned, hookimpl


@dataclass
class OneCycle:
    start: Annotated[Share, Tuned(0.01, 0.2, log=True)] = 0.04
    """Learning rate at the start, as a share of the peak (1 / div_factor)."""
    end: Share = 4e-6
    """Learning rate at the end, as a share of the peak (1 / div_factor / final_div_factor)."""

    @hookimpl
    def prepare(self, stage: Stage) -> None:
        if not stage.warmup:
            raise PluginError(
                f"'one_cycle' raises the learning rate in the warm-up, and stage '{stage.name}' has none: --warmup 0.3."
            )

    @hookimpl
    def schedule(self, stage: Stage, step: int, total_steps: int) -> float:
        last = total_steps - 1
        top = min(max(stage.warmup * total_steps - 1, 0), last)  # the step of the peak
        if step < top:
            return _between(self.start, 1.0, step / top)
        return _between(1.0, self.end, (step - top) / max(last - top, 1))


def _between(start: float, end: float, done: float) -> float:
    """Go from one factor to another along half a cosine; `done` is the share of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
