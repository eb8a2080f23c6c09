"""Subsample: draw a smaller training set of a task by the run's seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator

from regkit.base.errors import ConfigError
from regkit.data.per_task import by_task
from regkit.tasks.labels import as_number

NEEDED = "give a number of examples, from 1, or a share of them, above 0 and below 1"
FORM = "TASK=NUMBER or TASK=SHARE, such as sst=500"


def _amount(value: object) -> int | float:
    """Read how much is drawn: a number of examples, or a share; ValueError for anything else."""
    number = as_number(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(NEEDED)
    if isinstance(value, str) and "." not in value and number == int(number):
        number = int(number)
    if number >= 1 if isinstance(number, int) else 0 < number < 1:
        return number
    raise ValueError(NEEDED)


Subsample = Annotated[dict[str, Annotated[int | float, BeforeValidator(_amount)]], BeforeValidator(by_task(FORM))]


@dataclass(frozen=True)
class Draw:
    """Which training examples a run takes of a task."""

    amount: int | float  # of examples, or as a share of them
    seed: int

    def rows(self, name: str, total: int) -> Sequence[int]:
        """Choose rows of the task, in their order. Of one seed, a smaller draw is a part of a larger one.

        Raises ConfigError if there are fewer than are asked for.
        """
        import numpy as np  # not needed to check a command, and neither is torch

        from regkit.base.randomness import derive

        count = self.amount if isinstance(self.amount, int) else max(1, round(self.amount * total))
        if count > total:
            raise ConfigError(f"subsample: task '{name}' has {total} training examples, not {count}.")
        order = np.random.default_rng(derive(self.seed, "subsample", name)).permutation(total)
        return sorted(order[:count].tolist())


def draws(subsample: Mapping[str, int | float], seed: int) -> dict[str, Draw]:
    """Make the draw of each task that has one."""
    return {name: Draw(amount, seed) for name, amount in subsample.items()}
