"""R4F: bound the largest singular value of every head (Aghajanyan et al., ICLR 2021).

The constraint that turns R3F into R4F (section 3 of arXiv 2008.03156), on its own: `-p r3f -p r4f` is R4F. After each update
the weight of a head whose spectral norm exceeds `bound` is scaled down to it, so checkpoints hold ordinary weights.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import nn

from regkit import MultitaskModel, PluginError, Positive, Task, Tuned, hookimpl


@dataclass
class R4F:
    bound: Annotated[Positive, Tuned(0.3, 10, log=True)] = 1.0
    """Largest spectral norm of a head's weight."""

    kind: ClassVar[str] = "regularizers"
    neutral: ClassVar[Mapping[str, float]] = {"bound": math.inf}

    @hookimpl
    def prepare(self, model: MultitaskModel, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if not _matrices(model.heads[task.name]):
                raise PluginError(
                    f"'r4f' cannot bound the head of task '{task.name}', a cosine without weights. "
                    "Read its pairs as cross_encoder, or leave 'r4f' out."
                )
        self._hold(model)

    @hookimpl(tryfirst=True)  # so that a plugin that keeps an average sees bounded weights
    def after_step(self, model: MultitaskModel) -> None:
        self._hold(model)

    def _hold(self, model: MultitaskModel) -> None:
        with torch.no_grad():
            for weight in _matrices(model.heads):
                weight.mul_((self.bound / torch.linalg.matrix_norm(weight, 2)).clamp(max=1.0))


def _matrices(head: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in head.parameters() if parameter.dim() == 2]
