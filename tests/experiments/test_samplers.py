"""Samplers: a model of what was tried finds better points than chance, and the same history gives the same proposal."""

import math
import random
from collections.abc import Mapping
from typing import Any

import pytest

from regkit.base.bounds import Tuned
from regkit.experiments.search.dimension import Dimension, Space
from regkit.experiments.search.samplers import SAMPLERS, SamplerName, Tried, importance, propose
from tests.helpers import slow_but

pytest.importorskip("optuna")

SPACE: Space = {
    "learning_rate": Dimension("learning_rate", 5e-5, Tuned(1e-5, 1e-3, log=True)),
    "smart.epsilon": Dimension("smart.epsilon", 0.01, Tuned(0.003, 0.3, log=True)),
    "smart.weight": Dimension("smart.weight", 1.0, Tuned(0.1, 10, log=True)),
}
MIXED: Space = {
    "epochs": Dimension("epochs", 3, Tuned(1, 4), whole=True),
    "dropout": Dimension("dropout", None, choices=(None, 0.0, 0.1)),
    "batch_size": Dimension("batch_size", 32, choices=(16, 32)),
}


def score(point: Mapping[str, Any], noise: random.Random, size: float) -> float:
    """One hill, far from the default; most of it is the learning rate's doing."""
    tops = {"learning_rate": (2e-4, 0.15), "smart.epsilon": (0.03, 0.05), "smart.weight": (2.0, 0.03)}
    falls = [steep * math.log10(point[name] / top) ** 2 for name, (top, steep) in tops.items()]
    return 0.8 - sum(falls) + noise.gauss(0, size)


def searched(sampler: SamplerName, repeat: int, trials: int = 12, size: float = 0.005) -> list[Tried]:
    noise = random.Random(repeat)
    tried = list[Tried]()
    for number in range(trials):
        point = propose(SPACE, tried, sampler, 1000 * repeat + number)
        assert point is not None
        tried.append((point, score(point, noise, size)))
    return tried


def worth(point: Mapping[str, Any] | None) -> float:
    assert point is not None
    return score(point, random.Random(0), 0.0)


def found(sampler: SamplerName, repeat: int) -> float:
    """What the best point of a search is really worth."""
    return worth(max(searched(sampler, repeat, 20), key=lambda each: each[1] or 0)[0])


@pytest.mark.slow
def test_after_some_random_points_the_gaussian_process_proposes_better_ones_than_chance() -> None:
    better = 0
    for repeat in range(5):
        tried = searched("random", repeat)
        better += worth(propose(SPACE, tried, "gp", repeat)) > worth(propose(SPACE, tried, "random", repeat))
    assert better >= 4


@pytest.mark.slow
def test_its_search_ends_at_a_better_point_than_chance() -> None:
    assert all(found("gp", repeat) > found("random", repeat) for repeat in range(2))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposal_depends_on_what_was_tried_alone(sampler: SamplerName) -> None:
    tried = searched("random", 1, trials=8)
    assert propose(SPACE, tried, sampler, 7) == propose(SPACE, tried, sampler, 7)


def test_another_seed_proposes_another_point() -> None:
    assert propose(SPACE, [], "random", 7) != propose(SPACE, [], "random", 8)


def test_a_corner_that_was_tried_is_not_tried_again() -> None:
    """The model may want it again, because scores are noisy; but the same seeds would score the same."""
    corner = {"learning_rate": 1e-3, "smart.epsilon": 0.3, "smart.weight": 10.0}
    tried = [*searched("random", 1, trials=8), (corner, 0.9)]
    for number in range(5):
        point = propose(SPACE, tried, "gp", number)
        assert point is not None
        assert point not in [each for each, _ in tried]
        tried.append((point, 0.5))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposal_lies_in_the_space_with_the_options_types(sampler: SamplerName) -> None:
    tried = list[Tried]()
    for number in range(8):
        point = propose(MIXED, tried, sampler, number)
        assert point is not None
        assert all(MIXED[name].contains(value) for name, value in point.items())
        assert type(point["epochs"]) is int
        tried.append((point, float(number)))


@pytest.mark.parametrize("sampler", slow_but(SAMPLERS, ["random", "tpe"]))
def test_no_point_is_proposed_twice_and_a_space_may_be_exhausted(sampler: SamplerName) -> None:
    tried = list[Tried]()
    for number in range(24):
        point = propose(MIXED, tried, sampler, number)
        assert point is not None
        assert point not in [each for each, _ in tried]
        tried.append((point, float(number % 5)))
    assert propose(MIXED, tried, sampler, 24) is None


@pytest.mark.slow
def test_workers_that_propose_at_the_same_time_stay_apart() -> None:
    tried = searched("gp", 2, trials=12)
    first = propose(SPACE, tried, "gp", 12)
    assert first is not None
    second = propose(SPACE, [*tried, (first, None)], "gp", 13)
    alone = propose(SPACE, tried, "gp", 13)
    assert second is not None
    assert alone is not None

    def apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
        return sum(abs(math.log10(one[name] / other[name])) for name in SPACE)

    assert apart(first, second) > apart(first, alone)


def test_a_log_range_is_searched_by_orders_of_magnitude() -> None:
    drawn = [propose(SPACE, [], "random", seed) for seed in range(200)]
    rates = [point["learning_rate"] for point in drawn if point]
    assert sum(rate < 1e-4 for rate in rates) / 200 == pytest.approx(0.5, abs=0.1)


def test_a_point_outside_the_space_does_not_disturb_the_model() -> None:
    tried = searched("random", 1, trials=10)
    assert propose(SPACE, [(dict.fromkeys(SPACE, 99.0), 0.9), *tried], "gp", 5) == propose(SPACE, tried, "gp", 5)


def test_importance_is_a_share_that_says_what_mattered() -> None:
    shares = importance(SPACE, searched("random", 3, trials=40))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["learning_rate"] > shares["smart.epsilon"]


def test_too_few_trials_say_nothing_of_importance() -> None:
    tried = searched("random", 3, trials=9)
    assert importance(SPACE, tried) == {}
    assert importance(SPACE, [(point, 0.5) for point, _ in searched("random", 3, trials=12)]) == {}
