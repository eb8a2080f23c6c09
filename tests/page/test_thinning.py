"""Long series become short ones that show the same, and several become their mean and spread."""

import pytest

from regkit.page.charts.thinning import averaged, spread, thinned


def test_a_thinned_series_keeps_its_ends_its_lowest_and_its_highest() -> None:
    points = [(float(x), 1.0) for x in range(10_000)]
    points[4321], points[8765] = (4321.0, 9.0), (8765.0, -3.0)
    few = thinned(points, 200)
    assert len(few) <= 200
    assert few == sorted(few)
    assert {points[0], points[-1], (4321.0, 9.0), (8765.0, -3.0)} <= set(few)


def test_a_short_series_stays_as_it_is() -> None:
    assert thinned([(1.0, 2.0), (2.0, 0.0)], 200) == [(1.0, 2.0), (2.0, 0.0)]


def test_windows_average_what_lies_in_them_and_leave_out_what_is_empty() -> None:
    points = [(0.0, 1.0), (1.0, 3.0), (10.0, 8.0)]
    assert averaged(points, 5, (0.0, 10.0)) == [(1.0, 2.0), (9.0, 8.0)]


def test_runs_with_the_same_places_are_compared_there() -> None:
    middle, band, members = spread([[(0.0, 1.0), (5.0, 2.0)], [(0.0, 3.0), (5.0, 6.0)], [(0.0, 5.0)]], 10)
    assert middle == [(0.0, 3.0), (5.0, 4.0)]
    assert band == [(0.0, 1.0, 5.0), (5.0, 2.0, 6.0)]
    assert len(members) == 3


def test_runs_with_other_places_are_compared_over_windows() -> None:
    even = [(float(x), 1.0) for x in range(0, 100, 2)]
    odd = [(float(x), 3.0) for x in range(1, 100, 2)]
    middle, band, members = spread([even, odd], 10)
    assert len(middle) == len(band) == len(members[0]) == 10
    assert {y for _, y in middle} == {2.0}
    assert {(low, high) for _, low, high in band} == {(1.0, 3.0)}


def test_the_mean_of_numbers_whose_sum_is_too_large_is_finite() -> None:
    assert spread([[(0.0, 1.5e308)], [(0.0, 1.5e308)]], 5)[0] == [(0.0, pytest.approx(1.5e308))]
    assert spread([[], []], 5) == ([], [], [])
