"""Wording: numbers and texts of others, as people read them."""

import pytest

from regkit.base.wording import in_bytes, percent, printable


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0031, "0.31"), (0.075, "7.5"), (0.5, "50"), (0.9949, "99"), (0.996, "100"), (1.0, "100"), (3.2, "320")],
)
def test_a_share_is_never_written_with_an_exponent(share: float, said: str) -> None:
    assert percent(share) == said


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1e3, "1 kB"), (999_600, "1 MB"), (2**30, "1.07 GB"), (1.5e12, "1.5 TB")],
)
def test_bytes_have_decimal_units_and_three_digits(size: float, said: str) -> None:
    assert in_bytes(size) == said


def test_what_commands_a_terminal_is_written_out_and_letters_stay() -> None:
    assert printable("né \x1b[31m\tb\r\n\u202e語🎉\ud800") == r"né \x1b[31m\tb\r\n\u202e語🎉\ud800"
