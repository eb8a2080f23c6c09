"""Gradual unfreezing: train the heads and the top layer first, and one layer more at a time (Howard and Ruder, 2018)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from regkit import MultitaskModel, PluginError, Share, hookimpl


@dataclass
class GradualUnfreezing:
    share: Share = 0.5
    """Share of the stage's updates after which everything is trained, the word embeddings too."""
    done: float = field(init=False, repr=False, default=0.0)  # share of the stage's updates

    neutral: ClassVar[Mapping[str, float]] = {"share": 0.0}

    @hookimpl
    def prepare(self, model: MultitaskModel) -> None:
        if not all(hasattr(model.encoder, part) for part in ("layers", "pooler")):
            raise PluginError("'gradual_unfreezing' needs an encoder with `layers` and a `pooler`; leave it out.")
        self.done = 0.0

    @hookimpl
    def before_step(self, model: MultitaskModel) -> None:
        if self.done < self.share:
            count = 1 + int(self.done / self.share * len(model.encoder.layers))
            trained = {*model.encoder.layers[-count:].parameters(), *model.encoder.pooler.parameters()}
            for parameter in {*model.encoder.parameters()} - trained:
                parameter.grad = None  # the optimizer leaves a weight without one as it is

    @hookimpl
    def after_step(self, step: int, total_steps: int) -> None:
        self.done = (step + 1) / total_steps

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.done = state["done"]
