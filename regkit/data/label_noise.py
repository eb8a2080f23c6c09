"""Label noise: replace a share of a task's training labels by wrong ones, drawn by the run's seed.

Of a task with one class a row, the wrong class is any other with the same probability: symmetric noise, which leaves the
true class out (Zhang and Sabuncu, 2018, section 3.1; of two classes, Natarajan et al., 2013). Sets of labels, scores and
distributions over classes are those of another row, so that they are such as the task has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from regkit.base.errors import ConfigError
from regkit.data.per_task import by_task
from regkit.tasks.labels import as_number

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from regkit.tasks.objectives import Objective

NEEDED = "give the share of its training labels that are replaced, from 0 to 1"
FORM = "TASK=SHARE, such as sst=0.2"


def _share(value: object) -> float:
    """Read a share; ValueError for anything else."""
    number = as_number(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
        raise ValueError(NEEDED)
    return float(number)


LabelNoise = Annotated[dict[str, Annotated[float, BeforeValidator(_share)]], BeforeValidator(by_task(FORM))]


@dataclass(frozen=True)
class Noise:
    """How many of a task's training labels are replaced."""

    share: float  # of the labels
    seed: int

    def count(self, total: int) -> int:
        """Count the labels that are replaced."""
        return round(self.share * total)

    def note(self, total: int) -> str:
        """Say what is changed, for the plan."""
        return f"train: {self.count(total)} of {total} labels are replaced, drawn by the seed, which is {self.seed}"

    def replaced(self, name: str, objective: "Objective", labels: "Tensor") -> "Tensor":
        """Replace labels of a task by wrong ones: `[examples]` or `[examples, classes]`, a copy.

        Of one seed, what a smaller share replaces, a larger one replaces by the same. Raises ConfigError where all labels are
        one, so that no other row has another.
        """
        import numpy as np  # not needed to check a command, and neither is torch
        import torch

        from regkit.base.randomness import derive
        from regkit.tasks.objectives import Binary, Classification, Ordinal

        random = np.random.default_rng(derive(self.seed, "label noise", name))
        order = random.permutation(len(labels))
        rows = order[: self.count(len(labels))]
        noisy = labels.clone()  # the labels may be those of a file of the cache
        if isinstance(objective, Binary | Classification | Ordinal):
            steps = torch.from_numpy(random.integers(1, objective.classes, len(labels)))  # of all rows: shares agree
            noisy[rows] = (labels[rows] + steps[rows]) % objective.classes
        elif len(rows):
            sources = _rows_with_others(labels.numpy()[order])
            if sources is None:
                raise ConfigError(f"label_noise: all training labels of task '{name}' are the same, so none is wrong.")
            noisy[rows] = labels[order[sources[: len(rows)]]]
        return noisy


def _rows_with_others(labels: "np.ndarray") -> "np.ndarray | None":
    """Find for each row the next one that has another label, around the end.

    Returns `[examples]`, or None where all have one label.
    """
    import numpy as np

    differs = (labels != np.roll(labels, 1, axis=0)).reshape(len(labels), -1).any(axis=1)  # from the row before
    begins = np.flatnonzero(differs)
    if not len(begins):
        return None
    return begins[np.searchsorted(begins, np.arange(len(labels)), side="right") % len(begins)]


def noises(label_noise: Mapping[str, float], seed: int) -> dict[str, Noise]:
    """Make the noise of each task that has some."""
    return {name: Noise(share, seed) for name, share in label_noise.items() if share}
