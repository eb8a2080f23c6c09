"""Sampling: counts add up and stay close to their shares, and an order has each number as often as its count."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regkit import apportion, turn
from regkit.tasks.sampling import shuffled
from tests.helpers import PATIENT

SHARES = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=8).filter(any)
FEW = settings(PATIENT, max_examples=30)
COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any).map(tuple)


@FEW
@given(shares=SHARES, total=st.integers(0, 20_000))
def test_the_counts_add_up_and_each_is_its_exact_share_rounded_down_or_up(shares: list[float], total: int) -> None:
    counts = apportion(shares, total)
    assert len(counts) == len(shares)
    assert sum(counts) == total
    whole = sum(map(Fraction, shares))
    for share, count in zip(shares, counts, strict=True):
        assert count >= 0
        assert abs(count - Fraction(share) * total / whole) < 1 + Fraction(1, 10**6)  # floats round
        assert type(count) is int


@FEW
@given(shares=SHARES, total=st.integers(0, 20_000))
def test_a_share_of_nothing_gets_nothing_and_a_larger_share_never_gets_less(shares: list[float], total: int) -> None:
    counts = apportion(shares, total)
    ranked = sorted(zip(shares, counts, strict=True))
    assert all(count == 0 for share, count in ranked if share == 0)
    for (small, few), (large, many) in pairwise(ranked):
        assert few <= many or small == large


@pytest.mark.parametrize(
    ("shares", "total", "counts"),
    [
        ([8500, 25700, 6000], 1258, (266, 804, 188)),  # 265.995, 804.244, 187.761: the rest to the first and the third
        ([1, 1, 1], 4, (2, 1, 1)),  # of equal remainders, the first
        ([1, 1, 1], 5, (2, 2, 1)),
        ([0, 3, 1], 4, (0, 3, 1)),
        ([0.1, 0.2, 0.3], 6, (1, 2, 3)),  # what is whole stays whole, though 0.1 + 0.2 + 0.3 is not 0.6
        ([5], 7, (7,)),
        ([2, 1], 0, (0, 0)),
        ([1e-300, 3e-300], 8, (2, 6)),
    ],
)
def test_apportioned_by_hand(shares: list[float], total: int, counts: tuple[int, ...]) -> None:
    assert apportion(shares, total) == counts


@PATIENT
@given(counts=COUNTS, seed=st.integers(0, 2**62), epochs=st.integers(1, 3))
def test_an_epoch_has_each_number_as_often_as_its_count(counts: tuple[int, ...], seed: int, epochs: int) -> None:
    length = sum(counts)
    for epoch in range(epochs):
        found = Counter(turn(counts, step, seed) for step in range(epoch * length, (epoch + 1) * length))
        assert found == Counter({number: count for number, count in enumerate(counts) if count})


def order(seed: int, epoch: int, counts: tuple[int, ...] = (7, 20, 5)) -> list[int]:
    length = sum(counts)
    return [turn(counts, epoch * length + place, seed) for place in range(length)]


def test_the_order_is_another_one_in_every_epoch_and_of_every_seed() -> None:
    orders = [tuple(order(seed, epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16


def test_the_order_is_the_same_whenever_it_is_asked_for() -> None:
    first = order(3, 1)
    for seed in range(20):  # more than are remembered
        order(seed, 0)
    shuffled.cache_clear()
    backwards = [turn((7, 20, 5), step, 3) for step in reversed(range(32, 64))]
    assert backwards[::-1] == first


def test_the_order_is_random_and_not_in_blocks() -> None:
    """Every number comes up in every place about as often as its share; a 0 is in a place in 1/4 of 2,000 epochs."""
    counts = (2, 6)
    found = Counter(
        place for seed in range(2000) for place, number in enumerate(shuffled(counts, seed, 0)) if not number
    )
    assert sorted(found) == list(range(8))
    assert all(abs(times - 500) < 100 for times in found.values())  # five standard deviations
