"""Hooks: what plugins that do nothing add to a step, at a small batch, where there is least to hide it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch

from torch import Tensor

from regkit import hookimpl
from regkit.hooks import catalog
from tests.benchmarks.options import Options
from tests.benchmarks.ours import regkit_way
from tests.benchmarks.table import Contender, Table, measure
from tests.benchmarks.turns import Way

BATCH_SIZE = 8


@dataclass
class Idle:
    """A plugin that is asked in every step, and has nothing to say."""

    @hookimpl
    def extra_losses(self, loss: Tensor) -> dict[str, Tensor]:
        return {}

    @hookimpl
    def after_step(self, step: int) -> None:
        pass


def tables(options: Options) -> Iterator[Table]:
    """Compare a step without plugins to those with one, with ten and with a hundred."""
    chosen = replace(options, batch_size=min(options.batch_size, BATCH_SIZE))
    counts = {"no plugin": 0, "one": 1, "ten": 10, "a hundred": 100}
    contenders = [Contender(f"regkit, {name}", partial(idle, chosen, number)) for name, number in counts.items()]
    yield measure(
        f"A step of {chosen.task}, batches of {chosen.batch_size}, with plugins that do nothing", contenders, chosen
    )


def idle(options: Options, number: int) -> Way:
    """Make a step with so many plugins."""
    names = [f"idle_{place}" for place in range(number)]
    with patch.object(catalog, "make", lambda name, given: Idle()):
        return regkit_way(options, {name: {} for name in names})
