"""Constant: keep the learning rate at its peak after the warm-up.

The warm-up is that of the stage, so `warmup` 0 is one rate for all updates.
"""

from dataclasses import dataclass

from regkit import Stage, hookimpl


@dataclass
class Constant:
    @hookimpl
    def schedule(self, stage: Stage, step: int, total_steps: int) -> float:
        return stage.warming(step, total_steps)
