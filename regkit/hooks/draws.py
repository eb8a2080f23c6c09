"""Draws: notice that a hook draws random numbers, and by which of torch's functions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from regkit.base.operations import EachOperation
from regkit.base.randomness import states_of

FRESH = 8  # passes with fresh dropout in one hook; each takes a number from the plugin's stream


class Draws(EachOperation):
    """Call `note` for every operation of torch that draws random numbers. That slows each operation.

    `note` is given the name of the operation, and whether it draws from a generator that it was given.
    """

    def __init__(self, note: Callable[[str, bool], object]) -> None:
        super().__init__()
        self.note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.note(f"torch.{func.overloadpacket.__name__}", named.get("generator") is not None)
        return func(*args, **named)


@contextmanager
def own_draws() -> Iterator[dict[str, None]]:
    """Collect the functions that draw from the present random stream; passes inside have others."""
    found: dict[str, None] = {}
    stream = torch.initial_seed()

    def note(name: str, given: bool) -> None:
        if not given and torch.initial_seed() == stream:
            found[name] = None

    with Draws(note):
        yield found


def drew(before: list[Tensor], device: torch.device) -> bool:
    """Whether more was drawn since the generators' states `before` than `predict` takes for fresh dropout."""
    (cpu, *own), (now, *others) = before, states_of(device)
    if not all(map(torch.equal, own, others)):
        return True
    generator = torch.Generator()
    generator.set_state(cpu)
    for _ in range(FRESH + 1):
        if torch.equal(generator.get_state(), now):
            return False
        torch.randint(2**62, (), generator=generator)
    return True
