"""Few updates: train the first updates of a run to look at them, unscored.

Then training ends by an error of its own.
"""

from contextlib import suppress

from regkit.hooks.spec import hookimpl
from regkit.training.loop import Trainer


class EnoughError(Exception):
    """Report that the last update to look at is done."""


class Updates:
    """An observer that counts updates, skipped ones too, and ends training after the last."""

    def __init__(self, most: int) -> None:
        self.left = most

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        self.ended()

    @hookimpl(trylast=True)
    def skipped(self) -> None:
        self.ended()

    def ended(self) -> None:
        """Count an update. Raises EnoughError after the last."""
        self.left -= 1
        if not self.left:
            raise EnoughError


def train_until_enough(trainer: Trainer) -> None:
    """Train without the scores before the first update, which would take longer than all of them."""
    trainer.state.position.evaluated = trainer.state.position.step
    with suppress(EnoughError):
        trainer.train()
