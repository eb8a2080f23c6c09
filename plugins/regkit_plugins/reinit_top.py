"""Re-initialised top layers: the pooler and the highest layers begin anew (Zhang et al., ICLR 2021).

Section 5 of arXiv 2006.05987: what the top of an encoder learned for its pretraining task can be in the way on few examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from regkit import MultitaskModel, PluginError, Stage, hookimpl


@dataclass
class ReinitTop:
    layers: Annotated[int, Field(ge=0)] = 1
    """How many layers get fresh weights, and the pooler with them; 0 touches nothing."""

    neutral: ClassVar[Mapping[str, float]] = {"layers": 0}

    @hookimpl
    def prepare(self, model: MultitaskModel, stage: Stage) -> None:
        encoder = model.encoder
        if self.layers > len(encoder.layers):
            raise PluginError(f"'reinit_top' is to renew {self.layers} layers; the encoder has {len(encoder.layers)}.")
        if self.layers and stage.trainable == "heads":
            raise PluginError(
                "'reinit_top' makes fresh layers, but only the heads are trained; leave one of the two out."
            )
        if self.layers:
            for module in (encoder.pooler, *encoder.layers[-self.layers :]):
                encoder.reset(module)
