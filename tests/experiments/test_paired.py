"""Statistics: what they tell is what scipy and statsmodels tell, and no more than can be told."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from regkit.experiments.statistics import paired
from regkit.experiments.statistics.paired import estimate, holm, interval, seeds_needed, sign_flip, smallest_p
from tests.benchmarks.statistics import SPREADS, coverage, familywise_error, p_values


@pytest.mark.parametrize("pairs", [2, 3, 5, 9])
@pytest.mark.parametrize("decimals", [1, 12])
def test_the_sign_flip_test_is_scipys_exact_permutation_test(pairs: int, decimals: int) -> None:
    differences = np.random.default_rng(pairs).normal(0.3, 1, pairs).round(decimals)
    theirs = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert sign_flip(differences) == pytest.approx(theirs.pvalue)


def test_the_sign_flip_test_is_two_sided_and_counts_rounded_ties() -> None:
    assert sign_flip([1, 2, 3, 4, 5]) == sign_flip([-1, -2, -3, -4, -5]) == 1 / 16 == smallest_p(5)
    assert sign_flip([0.3 - 0.2, 0.2 - 0.1, -0.1]) == 1.0  # of which two sums differ from 0.1 in the last digit alone


@pytest.mark.parametrize("nothing", [[], [0.0], [0.0, 0.0, 0.0], [0.0] * 30, [0.7]])
def test_where_nothing_can_be_told_p_is_1(nothing: Sequence[float]) -> None:
    assert sign_flip(nothing) == 1
    assert math.isnan(sign_flip([*nothing, math.nan]))


def test_flips_of_many_pairs_are_drawn_and_never_give_0() -> None:
    differences = np.random.default_rng(0).normal(0.4, 1, 30)
    t_test = scipy.stats.ttest_1samp(differences, 0).pvalue
    assert sign_flip(differences) == sign_flip(differences) == pytest.approx(t_test, rel=0.2)
    assert sign_flip(np.ones(64)) == smallest_p(64) == pytest.approx(1e-5, rel=1e-3)


def test_holm_is_that_of_statsmodels_and_leaves_out_what_is_no_test() -> None:
    values = np.random.default_rng(1).uniform(size=9) ** 3
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])
    assert holm([0.01, math.nan, 0.03]) == pytest.approx([0.02, math.nan, 0.03], nan_ok=True)
    assert len(holm([])) == 0


def test_without_resampled_examples_the_interval_is_that_of_t_over_pairs() -> None:
    row, baseline = np.random.default_rng(2).normal(size=(2, 7)) + np.arange(7)
    theirs = scipy.stats.ttest_rel(row, baseline)
    found = estimate(row - baseline)
    assert found.p == pytest.approx(theirs.pvalue)
    for level in (0.9, 0.95):
        assert interval(row - baseline, level=level) == pytest.approx(tuple(theirs.confidence_interval(level)))


def test_examples_that_all_seeds_share_widen_the_interval_and_those_of_one_seed_do_not_count_twice() -> None:
    random = np.random.default_rng(3)
    differences = random.normal(0.5, 1, 6)
    shared = differences + random.normal(0, 2, (4000, 1))
    error = math.hypot(differences.std(ddof=1) / math.sqrt(6), 2)
    assert estimate(differences, shared).error == pytest.approx(error, rel=0.03)
    own = differences + random.normal(0, 1, (4000, 6))
    assert estimate(differences, own).error == pytest.approx(estimate(differences).error, rel=0.01)


def test_seeds_that_agree_by_chance_do_not_make_the_interval_a_point() -> None:
    assert all(math.isnan(end) for end in interval([0.01, 0.02 - 0.01, 0.03 - 0.02]))
    assert interval([0.0, 0.0, 0.0]) == (0, 0)
    resampled = 0.01 + np.random.default_rng(4).normal(0, 0.1, (2000, 3))
    assert estimate([0.01] * 3, resampled).error == pytest.approx(0.1 / math.sqrt(3), rel=0.05)


def test_of_one_seed_nothing_is_told() -> None:
    assert estimate([0.4]).mean == 0.4
    for one in ([0.4], []):
        assert all(math.isnan(end) for end in interval(one, np.zeros((5, len(one)))))
        assert seeds_needed(one) is None
        assert smallest_p(len(one)) == 1


def test_resamples_that_are_not_defined_are_left_out() -> None:
    differences, resampled = [0.1, 0.3, 0.2], np.random.default_rng(5).normal(0.2, 0.1, (50, 3))
    resampled[7, 1] = math.nan
    assert interval(differences, resampled) == interval(differences, np.delete(resampled, 7, axis=0))
    assert interval(differences, np.full((50, 3), math.nan)) == interval(differences)


def test_the_interval_of_few_examples_is_that_of_t_over_them() -> None:
    examples = np.random.default_rng(6).normal(0.3, 1, 12)
    drawn = np.random.default_rng(7).integers(12, size=(20_000, 12))
    means = np.repeat(examples[drawn].mean(axis=1, keepdims=True), 2, axis=1)
    same = [examples.mean()] * 2
    theirs = scipy.stats.ttest_1samp(examples, 0).confidence_interval()
    assert interval(same, means, examples=12) == pytest.approx(tuple(theirs), rel=0.05)


@pytest.mark.parametrize("size", [0.15, 0.3, 1.0, 2.0])
def test_the_seeds_that_are_needed_are_those_of_statsmodels(size: float) -> None:
    values = np.random.default_rng(8).normal(size=5)
    differences = (values - values.mean()) / values.std(ddof=1) - size
    theirs = TTestPower().solve_power(effect_size=size, power=0.8, alpha=0.05)
    assert seeds_needed(differences) == math.ceil(theirs)


def test_no_number_of_seeds_is_named_where_none_would_do() -> None:
    random = np.random.default_rng(9)
    assert seeds_needed([0.0, 0.0]) is None
    assert seeds_needed([0.01, 0.01, 0.01]) is None
    assert seeds_needed([1.0, -1.0, 0.001]) is None
    assert seeds_needed([0.1, 0.2, 0.4]) is not None
    too_few_examples = np.add([0.1, 0.2, 0.4], random.normal(0, 0.3, (500, 1)))
    assert seeds_needed([0.1, 0.2, 0.4], too_few_examples) is None


@pytest.mark.parametrize("spread", SPREADS)
def test_intervals_hold_the_true_difference_as_often_as_they_say(spread: str) -> None:
    assert 0.92 <= coverage(5, *SPREADS[spread], trials=300) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("spread", SPREADS)
def test_intervals_hold_the_true_difference_in_93_to_97_percent(seeds: int, spread: str) -> None:
    assert 0.93 <= coverage(seeds, *SPREADS[spread], trials=2000) <= 0.97


def test_p_values_of_identical_rows_are_uniform() -> None:
    assert scipy.stats.kstest(p_values(trials=500, seeds=10), "uniform").pvalue > 0.01


def test_holm_keeps_the_familywise_error_of_identical_rows() -> None:
    assert familywise_error(trials=500, rows=5, seeds=8) <= 0.07
    assert familywise_error(trials=500, rows=5, seeds=8, adjust=lambda values: np.asarray(values)) > 0.1


def test_statistics_need_no_torch() -> None:
    assert "torch" not in Path(paired.__file__).read_text(encoding="utf8")
