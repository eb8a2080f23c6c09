"""A race recommends what is better, seldom what is not, in few runs; and every look is paid for."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import scipy.stats

from regkit.experiments.statistics.looks import boundaries, chance
from regkit.experiments.statistics.race import Race, Verdict
from tests.benchmarks.race import races, share

ROWS = [f"row {number}" for number in range(5)]
RULES = Race(ROWS, ["plain"], 20)
BASE = [0.70, 0.72, 0.71, 0.69, 0.73, 0.70, 0.74, 0.71, 0.72, 0.70]
STEPS = [0.011, 0.013, 0.012, 0.014, 0.010, 0.012, 0.013, 0.011, 0.012, 0.012]


def by_seed(**rows: list[float]) -> dict[str, dict[int, float]]:
    return {name.replace("_", " "): dict(enumerate(values)) for name, values in rows.items()}


def verdict(rules: Race, scores: Mapping[str, Mapping[int, float]], **others: object) -> Verdict:
    return rules.verdict(scores, {"plain": 10.0, "up": 11.0}, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 4])
def test_of_identical_rows_one_is_recommended_in_at_most_5_percent_of_races(workers: int) -> None:
    outcomes = races(RULES, {}, 60, workers)
    assert share(outcomes, "use") <= 0.05
    assert share(outcomes, "nothing") >= 0.85


@pytest.mark.slow
def test_of_identical_rows_one_is_recommended_in_at_most_5_percent_of_many_races() -> None:
    """A second control can only take a recommendation away."""
    assert share(races(RULES, {}, 1000), "use") <= 0.05


def test_a_winner_is_found_in_a_third_of_the_runs_of_the_full_table() -> None:
    outcomes = races(RULES, {"row 2": 1.5}, 40)  # standard deviations of a paired difference
    assert share(outcomes, "use", "row 2") >= 0.8
    assert np.mean([each.runs for each in outcomes]) <= (len(ROWS) + 1) * 20 / 3


@pytest.mark.parametrize(("most", "level"), [(2, 0.05), (10, 0.05), (10, 0.01)])
def test_all_looks_together_cross_the_boundary_as_often_as_the_level_says(most: int, level: float) -> None:
    values = np.random.default_rng(1).normal(size=(20_000, most))
    crossed = np.zeros(len(values), bool)
    for pairs in range(2, most + 1):
        t = scipy.stats.ttest_1samp(values[:, :pairs], 0, axis=1).statistic
        crossed |= np.abs(t) > boundaries(most, level)[pairs]
    assert crossed.mean() == pytest.approx(level, rel=0.15)


def test_one_look_asks_what_a_t_test_asks_and_more_looks_ask_more() -> None:
    assert boundaries(2, 0.05)[2] == pytest.approx(scipy.stats.t.ppf(0.975, 1), rel=0.05)
    assert boundaries(10, 0.01)[10] > scipy.stats.t.ppf(0.995, 9)
    assert (boundaries(10, 0.01) > boundaries(10, 0.05))[2:].all()
    assert list(boundaries(1, 0.05)) == [math.inf, math.inf]
    assert np.isfinite(boundaries(3, 1e-7)[2:]).all()  # a level that no simulation reaches


def test_the_chance_of_being_told_is_that_of_simulated_seeds() -> None:
    random = np.random.default_rng(2)
    mean, spread, values, total, boundary = 0.4, 1.0, 6, 20, 3.0
    deviation = spread * np.sqrt(5 / random.chisquare(5, 40_000))  # what the true one may be, and so the true mean
    true = random.normal(mean, deviation / np.sqrt(values))
    more = random.normal(true, deviation / np.sqrt(total - values))
    whole = (values * mean + (total - values) * more) / total
    assert chance(mean, spread, values, boundary, total) == pytest.approx(
        (whole > boundary * spread / np.sqrt(total)).mean(), abs=0.01
    )


def test_the_winner_is_named_with_its_interval_and_its_time() -> None:
    found = verdict(Race(["up"], ["plain"], 10), by_seed(plain=BASE, up=list(np.add(BASE, STEPS))))
    assert (found.kind, found.row, found.control) == ("use", "up", "plain")
    assert found.standing
    assert found.standing.pairs < 10
    assert str(found) == "use 'up': +.012 [.004, .020] over 'plain', 1.1 times the time."
    assert 0 < found.standing.low < 0.012 < found.standing.high


def test_a_row_has_to_beat_every_control() -> None:
    scores = by_seed(plain=BASE, up=list(np.add(BASE, STEPS)))
    scores["dropout=0"] = dict(enumerate(np.add(BASE, np.multiply(STEPS, 1.5))))
    found = verdict(Race(["up"], ["plain", "dropout=0"], 10), scores)
    assert found.kind == "nothing"
    assert str(found) == "nothing here beats 'dropout=0'; more seeds would not change that."
    assert found.dropped == {"up": "it is not going to be better than 'dropout=0'"}
    alone = by_seed(plain=BASE, up=list(np.subtract(BASE, [0.01, 0.010001] * 5)))
    assert verdict(Race(["up"], ["plain"], 2), alone).dropped == {"up": "it is worse than 'plain'"}


def test_where_nothing_is_decided_it_says_how_many_more_seeds_would() -> None:
    noisy = [0.02, 0.00, 0.02, 0.00, 0.02, 0.00]
    found = verdict(Race(["up"], ["plain"], 20), by_seed(plain=BASE[:6], up=list(np.add(BASE[:6], noisy))))
    assert found.kind == "undecided"
    assert found.more
    assert str(found) == f"undecided: about {found.more} more seeds would tell whether 'up' beats 'plain'."
    for few in (0, 1):
        early = verdict(Race(["up"], ["plain"], 6), by_seed(plain=BASE[:few], up=BASE[:few]))
        assert str(early) == "undecided: too little has been seen to say how many more seeds would tell."


def test_runs_go_seed_by_seed_and_the_cheapest_first() -> None:
    rules, seconds = Race(["slow", "quick"], ["plain"], 3, first=7), {"slow": 3.0, "quick": 1.0, "plain": 2.0}
    scores: dict[str, dict[int, float]] = {name: {} for name in seconds}
    order = []
    while cell := rules.next(scores, seconds):
        order.append(cell)
        scores[cell[0]][cell[1]] = 0.5 + 0.01 * len(order) * (-1) ** len(order)
    assert order[:6] == [("quick", 7), ("plain", 7), ("slow", 7), ("quick", 8), ("plain", 8), ("slow", 8)]
    assert rules.next({}, {}) == ("plain", 7)
    assert rules.next({}, seconds, running=[("quick", 7), ("plain", 7)]) == ("slow", 7)
    assert rules.next({}, seconds, running=[(name, 7) for name in seconds]) == ("quick", 8)


def test_a_row_that_is_dropped_never_runs_again_and_a_control_only_while_a_row_needs_it() -> None:
    scores = by_seed(plain=BASE, worse=list(np.subtract(BASE, STEPS)))
    rules = Race(["worse", "new"], ["plain"], 20)
    assert rules.next(scores | {"new": {}}, {}) == ("new", 0)
    assert Race(["worse"], ["plain"], 20).next(scores, {}) is None
    scores["weak"] = dict(enumerate(np.subtract(BASE, np.multiply(STEPS, 20))))
    beaten = scores | by_seed(open=list(np.add(BASE, [0.02, -0.003] * 5)))
    cells: set[tuple[str, int]] = set()
    while cell := Race(["open"], ["plain", "weak"], 10, first=2).next(beaten, {}, running=cells):
        cells.add(cell)
    assert cells == {("open", 10), ("open", 11), ("plain", 10), ("plain", 11)}


def test_a_row_that_one_control_has_beaten_is_not_compared_with_another() -> None:
    scores = by_seed(
        plain=BASE, strong=list(np.add(BASE, np.multiply(STEPS, 5))), up=list(np.add(BASE, [0.02, -0.003] * 5))
    )
    assert Race(["up"], ["plain"], 20).next(scores, {}) == ("plain", 10)
    assert Race(["up"], ["plain", "strong"], 20).next(scores, {}) is None


def test_looks_are_at_the_same_seeds_in_whatever_order_runs_end() -> None:
    rules = Race(["up"], ["plain"], 10)
    scores = by_seed(plain=BASE, up=list(np.add(BASE, STEPS)))
    gap = {"plain": scores["plain"], "up": {seed: score for seed, score in scores["up"].items() if seed != 1}}
    assert verdict(rules, gap).kind == "undecided"
    assert rules.next(gap, {}) == ("up", 1)
    assert verdict(rules, gap, failed=[("up", 1)]).kind == "use"


def test_a_cell_that_failed_is_not_run_again_and_a_row_that_only_fails_is_dropped() -> None:
    rules = Race(["up"], ["plain"], 10)
    once = by_seed(plain=BASE[:1])
    assert rules.next(once, {}, failed=[("up", 0)]) == ("plain", 1)
    twice = [("up", 0), ("up", 1)]
    assert rules.next(once, {}, failed=twice) is None
    found = verdict(rules, once, failed=twice)
    assert (found.kind, found.dropped) == ("undecided", {"up": "all of its runs failed"})
    other = [("dropout=0", 0), ("dropout=0", 1)]
    better = by_seed(plain=BASE, up=list(np.add(BASE, STEPS)))
    assert verdict(Race(["up"], ["plain", "dropout=0"], 10), better, failed=other).dropped == {
        "dropout=0": "all of its runs failed"
    }


def test_a_row_with_the_scores_of_a_control_is_dropped_for_that() -> None:
    found = verdict(Race(["up"], ["plain"], 10), by_seed(plain=BASE[:3], up=BASE[:3]))
    assert found.dropped == {"up": "it has the same scores as 'plain'"}


def test_differences_that_agree_by_chance_decide_nothing() -> None:
    scores = by_seed(plain=[0.5, 0.25, 0.75], up=[0.625, 0.375, 0.875])
    assert verdict(Race(["up"], ["plain"], 10), scores).kind == "undecided"
    scores["up"][1] = math.nan
    assert verdict(Race(["up"], ["plain"], 10), scores).kind == "undecided"


def test_a_better_row_may_still_take_the_place_of_a_winner() -> None:
    up, more = np.add(BASE, STEPS), np.add(BASE, np.multiply(STEPS, 3) + [0.03, -0.03] * 5)
    rules = Race(["up", "more"], ["plain"], 20)
    scores = by_seed(plain=BASE, up=list(up), more=list(more))
    assert verdict(rules, scores).row == "up"
    assert rules.next(scores, {}) == ("plain", 10)
    behind = scores | by_seed(more=list(np.add(BASE, [0.02, -0.01] * 5)))
    assert rules.next(behind, {}) is None


def test_without_controls_or_rows_there_is_nothing_to_run() -> None:
    for rules in (Race([], ["plain"]), Race(["up"], [])):
        assert rules.next({}, {}) is None
        assert verdict(rules, by_seed(plain=BASE, up=BASE)).kind == "undecided"
