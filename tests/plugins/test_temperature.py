"""Temperature: shares of an epoch computed by hand."""

from collections.abc import Mapping
from typing import Any

import pytest
from regkit_plugins.temperature import Temperature

from regkit import PluginError
from regkit.cli.plan import first_epoch
from regkit.hooks import catalog
from tests.helpers import stages_of
from tests.plugins.turns import ALIKE, BATCHES, TOTAL, Counts, counted, trainer_of


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"T": 1}, BATCHES),  # 1258 * 8500 / 40200 = 265.995, 804.244, 187.761
        ({"T": 2}, (352, 611, 295)),  # roots 92.20, 160.31, 77.46: 351.495, 611.190, 295.315
        ({"T": 5}, (396, 493, 369)),  # 395.549, 493.518, 368.933
        ({"T": 0.5}, (118, 1081, 59)),  # squares: 118.233, 1080.855, 58.912
        ({"T": 0.01}, (0, TOTAL, 0)),  # 25700^100 is no float
        ({"T": 1e6}, (419, 420, 419)),  # a third each, and a trace more for the largest
        ({"T": 1, "cap": 10_000}, (436, 514, 308)),  # of 24,500: 436.449, 513.469, 308.082
        ({"T": 2, "cap": 10_000}, (430, 467, 361)),  # roots 92.20, 100, 77.46: 430.112, 466.522, 361.366
        ({"T": 1, "cap": 32}, ALIKE),
        ({"T": 1, "cap": 25_700}, BATCHES),
    ],
)
def test_temperature_by_hand(options: Mapping[str, Any], expected: Counts) -> None:
    assert counted(catalog.make("temperature", options), epochs=2) == [expected, expected]


def test_a_cap_below_a_batch_is_refused() -> None:
    trainer = trainer_of({"temperature": Temperature(cap=31)})
    ((stage, tasks),) = stages_of(trainer)
    with pytest.raises(PluginError) as refused:
        first_epoch(trainer, stage, tasks)
    assert str(refused.value) == "'temperature' has a cap of 31, below a batch of task 'sst' (32)."


@pytest.mark.parametrize(("option", "value"), [("T", 0), ("T", "-1"), ("T", "inf"), ("T", "nan"), ("cap", 0)])
def test_a_temperature_or_a_cap_of_nothing_is_refused(option: str, value: object) -> None:
    with pytest.raises(PluginError, match=rf"^'temperature': {option}"):
        catalog.make("temperature", {option: value})
