"""Re-initialised top: reset the pooler and the highest layers (Zhang et al., ICLR 2021).

Section 5 of arXiv 2006.05987: the top layers are specialised for pretraining, which can hurt when there are few examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from regkit import MultitaskModel, PluginError, Stage, Tuned, hookimpl


@dataclass
class ReinitTop:
    layers: Annotated[int, Field(ge=0), Tuned(0, 2)] = 1
    """Number of layers that are reset, together with the pooler; 0 resets nothing."""

    neutral: ClassVar[Mapping[str, float]] = {"layers": 0}

    @hookimpl
    def prepare(self, model: MultitaskModel, stage: Stage) -> None:
        encoder = model.encoder
        if self.layers > len(encoder.layers):
            raise PluginError(f"'reinit_top' has layers={self.layers}, but the encoder has {len(encoder.layers)}.")
        if self.layers and stage.trainable == "heads":
            raise PluginError(
                "'reinit_top' resets layers, but the encoder is frozen; leave it out, or what freezes the encoder."
            )
        if not self.layers:
            return
        top = encoder.layers[-self.layers :]
        if not all(weight.requires_grad for layer in top for weight in layer.parameters()):
            raise PluginError(
                "'reinit_top' resets layers whose weights another plugin keeps as they are, so they would stay random; leave "
                "one of the two plugins out."
            )
        for module in (encoder.pooler, *top):
            encoder.reset(module)
