"""Wording: shares in percent, as people read them."""

import pytest

from regkit.base.wording import percent


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0031, "0.31"), (0.075, "7.5"), (0.5, "50"), (0.9949, "99"), (0.996, "100"), (1.0, "100"), (3.2, "320")],
)
def test_a_share_is_never_written_with_an_exponent(share: float, said: str) -> None:
    assert percent(share) == said
