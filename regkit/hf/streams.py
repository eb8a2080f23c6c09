"""Streams: the Trainer's generators draw a clean pass's dropout, regkit's streams all the rest."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from regkit.base.randomness import Streams, set_states, states_of, unchanged

States = list[torch.Tensor]


class TrainerStreams(Streams):
    """Streams that do not change what a Trainer draws, and replay it.

    A Trainer draws dropout from torch's default generators, one micro-batch after the other, and saves their state with its
    checkpoints. So the first pass at the place of a micro-batch draws from them as they are. The state in which that pass
    found them is kept, and every later pass at the place draws the same masks. `torch.nn.Dropout`, fused attention and
    activation checkpointing all draw from these generators, on the CPU and on CUDA.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        super().__init__(seed, device)
        self.clean: dict[tuple[object, ...], States | None] = {}  # by place: the state at the start of its clean pass

    @contextmanager
    def seeded(self, *purpose: object) -> Iterator[None]:
        """Draw from the stream of this place and purpose, but a pass's dropout as a Trainer draws it."""
        if purpose != ("dropout",) or self.place not in self.clean:
            with super().seeded(*purpose):
                yield
        elif (states := self.clean[self.place]) is None:
            self.clean[self.place] = states_of(self.device)
            yield
        else:
            with unchanged(self.device):
                set_states(self.device, states)
                yield
