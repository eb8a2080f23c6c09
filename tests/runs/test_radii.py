"""Radii of attacks: read from a command line and from a file."""

import pytest

from regkit.base.errors import ConfigError
from regkit.runs.radii import RADII, attack_within, read_radii


@pytest.mark.parametrize(
    ("given", "radii"),
    [("0.1, 0.03", (0.03, 0.1)), ([0.03, 1], (0.03, 1.0)), ("1e-5", (1e-5,)), (RADII, RADII)],
)
def test_they_are_numbers_in_order(given: object, radii: tuple[float, ...]) -> None:
    assert read_radii(given, "it") == radii


@pytest.mark.parametrize(
    "given",
    ["", "0.1,", "x", "0", "-0.1", "inf", "nan", "1000.1", "1e25", [], [True], [None], [10**400], 0.1, None, {"a": 1}],
)
def test_others_are_refused(given: object) -> None:
    with pytest.raises(ConfigError, match=r"^it is .*; give numbers above 0, up to 1000, such as 0\.03,0\.1\.$"):
        read_radii(given, "it")


def test_each_attack_has_another_radius_and_another_name() -> None:
    with pytest.raises(ConfigError, match=r"^it: a radius is given twice"):
        read_radii("0.1,0.10", "it")
    assert len({attack_within(radius) for radius in read_radii("0.1,0.1000001", "it")}) == 2
