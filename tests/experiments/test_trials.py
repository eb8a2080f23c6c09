"""Trials: a trial is given up only where the seeds that it shares with the best say so."""

import math
import random
from collections.abc import Sequence

import pytest

from regkit.experiments.search.trials import FEW, Trial, Trials

SEEDS = (0, 1, 2)
EASY = {0: 0.2, 1: 0.0, 2: -0.2}  # how much higher any trial scores with a seed: more than trials differ


def trial(number: int, level: float, seeds: Sequence[int] = SEEDS, wobble: float = 0.0) -> Trial:
    noise = random.Random(number)
    return Trial(number, {}, {seed: level + EASY[seed] + wobble * noise.gauss(0, 1) for seed in seeds})


def trials(*more: Trial, wobble: float = 0.01) -> Trials:
    """Six complete trials, of which the last is the best, and more."""
    return Trials([*(trial(number, 0.5 + number / 100, wobble=wobble) for number in range(6)), *more], SEEDS)


def test_the_best_is_the_complete_trial_with_the_highest_mean_and_the_earliest_of_equals() -> None:
    lucky, equal = Trial(6, {}, {0: 0.99}), trial(7, 0.55)
    found = Trials([*(trial(number, 0.5 + number / 100) for number in range(6)), lucky, equal], SEEDS)
    assert found.best is not None
    assert found.best.number == 5


def test_a_trial_that_is_clearly_worse_on_the_same_seeds_needs_no_more_of_them() -> None:
    bad = trial(6, 0.3, seeds=[0])  # 0.5 in all: no worse than many scores of other seeds
    assert trials(bad).state(bad) == "pruned"


def test_a_trial_is_not_given_up_for_a_seed_that_is_hard_for_all() -> None:
    good = trial(6, 0.56, seeds=[2])  # 0.36 in all: less than all scores with other seeds
    assert trials(good).state(good) == "unfinished"


def test_a_trial_that_may_be_as_good_goes_on() -> None:
    close = trial(6, 0.54, seeds=[0, 1])
    assert trials(close, wobble=0.05).state(close) == "unfinished"


def test_equal_trials_are_seldom_given_up() -> None:
    given_up = 0
    for repeat in range(300):
        noise = random.Random(repeat)
        drawn = [{seed: noise.gauss(EASY[seed], 0.03) for seed in SEEDS} for _ in range(8)]
        rows = [Trial(number, {}, scores) for number, scores in enumerate(drawn[:-1])]
        last = Trial(7, {}, {0: drawn[-1][0]})
        given_up += Trials([*rows, last], SEEDS).state(last) == "pruned"
    assert given_up / 300 < 0.3  # against the best of seven, which is best by chance; against any other one, 0.03


def test_the_default_is_never_given_up_and_nothing_is_before_the_noise_is_known() -> None:
    default = Trial(0, {}, {0: 0.0})
    rest = [trial(number, 0.5) for number in range(1, 7)]
    assert Trials([default, *rest], SEEDS).state(default) == "unfinished"
    bad = trial(9, 0.0, seeds=[0])
    assert Trials([*rest[:FEW], bad], SEEDS).state(bad) == "unfinished"


def test_a_trial_with_few_seeds_is_not_judged_by_how_easy_they_are() -> None:
    few = trial(6, 0.53, seeds=[0])
    assert trials(few, wobble=0.0).value(few) == pytest.approx(0.53)
    assert few.mean == pytest.approx(0.73)


def test_the_value_of_a_complete_trial_is_its_mean() -> None:
    found = trials()
    assert [found.value(each) for each in found.trials] == pytest.approx([each.mean for each in found.trials])


def test_the_noise_is_what_neither_trial_nor_seed_explains() -> None:
    noise = random.Random(1)
    rows = [
        Trial(number, {}, {seed: noise.gauss(number / 10 + EASY[seed], 0.05) for seed in SEEDS})
        for number in range(400)
    ]
    assert Trials(rows, SEEDS).noise() == pytest.approx(0.05, rel=0.1)
    assert math.isnan(Trials(rows[:1], SEEDS).noise())
    assert math.isnan(Trials(rows, SEEDS[:1]).noise())


def test_with_one_seed_nothing_is_given_up() -> None:
    rows = [Trial(number, {}, {0: 0.5}) for number in range(9)] + [Trial(9, {}, {0: 0.0})]
    assert Trials(rows, [0]).state(rows[-1]) == "complete"


def test_a_trial_whose_run_failed_is_neither_complete_nor_the_best() -> None:
    failed = Trial(6, {}, {0: 0.9, 1: 0.9, 2: 0.9}, failed="out of memory")
    found = trials(failed)
    assert found.state(failed) == "failed"
    assert found.best is not failed
