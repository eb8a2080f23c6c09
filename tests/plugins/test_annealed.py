"""Annealed: the exponent of each epoch, computed by hand."""

import pytest
from regkit_plugins.annealed import Annealed

from tests.plugins.turns import ALIKE, BATCHES, TOTAL, Counts, counted, counts, epochs_of, trainer_of


@pytest.mark.parametrize(
    ("fall", "epochs", "expected"),
    [
        (0.8, 1, [BATCHES]),  # the first epoch, not the last, and no division by E - 1 = 0
        (0.8, 2, [BATCHES, (396, 493, 369)]),  # n^0.2: 395.549, 493.518, 368.933
        (0.8, 3, [BATCHES, (335, 651, 272), (396, 493, 369)]),  # n^0.6: 335.138, 650.928, 271.934
        (1.0, 2, [BATCHES, ALIKE]),
        (0.0, 2, [BATCHES, BATCHES]),
    ],
)
def test_annealed_by_hand(fall: float, epochs: int, expected: list[Counts]) -> None:
    assert counted(Annealed(fall), epochs=epochs) == expected


def test_the_last_epoch_of_annealing_may_be_a_part_of_one() -> None:
    """Two epochs and a half are three: the exponent of the third is 0.2, whatever there is of it."""
    whole = epochs_of(trainer_of({"scheduler": Annealed()}, epochs=3))
    part = epochs_of(trainer_of({"scheduler": Annealed()}, steps=2 * TOTAL + 629))
    assert part == [whole[0], whole[1], whole[2][:629]]


def test_annealing_never_trains_one_task_only() -> None:
    for epoch in epochs_of(trainer_of({"scheduler": Annealed()}, epochs=6)):
        assert min(counts(epoch)) >= 188
