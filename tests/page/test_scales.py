"""Scales put a number where it belongs, and what is written beside an axis is round."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regkit.page.charts.scales import MINUS, Scale, fitted, fixed, labels, number, signed, ticks
from tests.helpers import PATIENT

NUMBERS = st.lists(st.floats(), max_size=6)


def test_the_ends_of_the_numbers_are_inside_and_the_ends_of_the_axis_are_round() -> None:
    scale = fitted([0.303, 0.48], 100, 0)
    assert (scale.low, scale.high) == pytest.approx((0.3, 0.5))
    assert scale(scale.low) == 100
    assert scale(scale.high) == 0
    assert scale(0.4) == pytest.approx(50)


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 120, [0, 50, 100]),
        (-0.05, 0.05, [-0.05, -0.025, 0, 0.025, 0.05]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, found: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(found)


def test_a_logarithmic_axis_has_powers_of_ten_at_equal_distances() -> None:
    scale = fitted([1e-5, 1e-2], 0, 100, logarithmic=True)
    assert scale.ticks() == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2])
    assert scale(1e-4) - scale(1e-5) == pytest.approx(scale(1e-2) - scale(1e-3))


@PATIENT
@example([5e-324], True)
@given(NUMBERS, st.booleans())
def test_whatever_the_numbers_are_every_place_is_on_the_axis(values: list[float], upwards: bool) -> None:
    scale = fitted(values, *((0, 100) if upwards else (100, 0)))
    assert scale.low < scale.high
    for value in [*values, *scale.ticks()]:
        assert 0 <= scale(value) <= 100
    assert 1 <= len(scale.ticks()) < 12
    assert len(labels(scale.ticks())) == len(scale.ticks())


def test_a_number_that_is_outside_is_put_at_the_nearer_end() -> None:
    scale = Scale(0, 1, 10, 20)
    assert (scale(-5), scale(5), scale(math.inf), scale(math.nan)) == (10, 20, 20, 10)


def test_labels_have_as_many_digits_as_tell_them_apart() -> None:
    assert labels([0.3, 0.35, 0.4]) == ["0.3", "0.35", "0.4"]
    assert labels([1000, 1001]) == ["1000", "1001"]
    assert labels([-0.05, 0.0]) == [f"{MINUS}0.05", "0"]


def test_scores_are_written_in_three_decimals_and_small_numbers_so_that_something_is_seen() -> None:
    assert [fixed(value) for value in (0.48, 1.6143, 0.0, 0.00005, 12345.0)] == [
        "0.480",
        "1.614",
        "0.000",
        "5e-05",
        "12345",
    ]
    assert [signed(value) for value in (0.012, -0.5, 0.0004, 0.0)] == ["+0.012", f"{MINUS}0.500", "+0.0004", "0.000"]
    assert [number(value) for value in (math.nan, -math.inf, -0.0, 1e9)] == ["–", f"{MINUS}∞", "0", "1e+09"]
