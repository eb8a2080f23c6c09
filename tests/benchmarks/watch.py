"""Watch: what it costs to watch plugins for misuse - in first steps, in every hundredth, and in all others."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

from regkit.hooks.watch import Watch
from tests.benchmarks.options import Options
from tests.benchmarks.ours import enter, trainer_of, update
from tests.benchmarks.table import Contender, Table, measure
from tests.benchmarks.turns import Way

EVERY = 16
STEPS = {"a first step": 1, "a watched step": EVERY // 2, "any other step": EVERY // 2 + 1}  # each by its number


def tables(options: Options) -> Iterator[Table]:
    """Compare steps of each kind that are watched to the same step unwatched."""
    for kind, number in STEPS.items():
        contenders = [
            Contender("not watched", partial(step, options, number, watched=False)),
            Contender("watched", partial(step, options, number, watched=True)),
        ]
        yield measure(f"{kind.capitalize()} with smart", contenders, options)


def step(options: Options, number: int, *, watched: bool) -> Way:
    """Make a step that is always of this number, and always on one batch."""
    trainer = trainer_of(options, {"smart": {}}, measure_every=EVERY)
    span = enter(trainer)

    def work(_: int) -> None:
        with nullcontext() if watched else patch.object(Watch, "on", False):
            update(trainer, span, number)

    return Way(work)
