"""Lookahead: every few updates, go back part of the way to the weights of the last time (Zhang et al., 2019)."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from regkit import Count, MultitaskModel, Share, hookimpl


@dataclass
class Lookahead:
    alpha: Share = 0.5
    """Share of the way that the slow weights follow the fast ones."""
    every: Count = 5
    """Updates from one such move to the next, the paper's k."""
    slow: MultitaskModel = field(init=False, repr=False)

    @hookimpl(trylast=True)
    def prepare(self, model: MultitaskModel) -> None:
        self.slow = copy.deepcopy(model).requires_grad_(False)

    @hookimpl
    @torch.no_grad()
    def after_step(self, model: MultitaskModel, step: int) -> None:
        if (step + 1) % self.every == 0:
            for slow, fast in zip(self.slow.parameters(), model.parameters(), strict=True):
                fast.copy_(slow.lerp_(fast, self.alpha))

    @hookimpl
    def model_to_evaluate(self) -> MultitaskModel:
        return self.slow

    def state_dict(self) -> dict[str, Any]:
        return {"slow": self.slow.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.slow.load_state_dict(state["slow"])
