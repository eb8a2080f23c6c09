"""Freeze: train the heads on an encoder that stays as it is (the course project's "pretrain" mode)."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from regkit import Positive, Stage, Tuned, hookimpl

Stages = list[Sequence[Stage]]


@dataclass
class Freeze:
    learning_rate: Annotated[Positive, Tuned(1e-4, 1e-2, log=True)] = 1e-3
    """Peak learning rate of the heads; it replaces the stage's learning rate."""

    @hookimpl(wrapper=True)
    def stages(self) -> Generator[None, Stages, Stages]:
        answers = yield
        return [
            [replace(stage, trainable="heads", learning_rate=self.learning_rate) for stage in stages]
            for stages in answers
        ]
