"""Adaptive: shares from dev scores, against the formula of the paper."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from regkit_plugins.adaptive import Adaptive

from regkit import Ordinal, PluginError
from regkit.cli.plan import first_epoch
from regkit.hooks import catalog
from regkit.training.loop import Trainer
from regkit.training.stages import measure_length
from tests.helpers import stages_of
from tests.plugins.turns import ALIKE, TOTAL, Counts, Log, counts, epochs_of, large, small, trainer_of


def oracle(given: Mapping[str, float], past: Sequence[Mapping[str, float]], alpha: float, floor: float) -> Counts:
    """Jean et al.'s explicit schedule over the large tasks, from all the scores that there have been."""
    names, shares = ("sst", "quora", "sts"), []
    for name in names:
        scores = [max(0.0, each[name]) for each in past]
        reference = given[name] if name in given else max(scores)
        reached = 0.0 if scores[-1] == 0 else scores[-1] / reference
        shares.append(1.0 / ((reached if reached < 1 else 1.0) ** alpha + floor))
    exact = [TOTAL * share / sum(shares) for share in shares]
    found = [int(each) for each in exact]
    while sum(found) < TOTAL:
        found[max(range(3), key=lambda number: exact[number] - found[number])] += 1
    return tuple(found)


def tell(trainer: Trainer, step: int, scores: Mapping[str, float]) -> None:
    """The dev splits were scored; what is not the task's own metric counts for nothing."""
    ((stage, tasks),) = stages_of(trainer)
    measure_length(trainer.hook, trainer.streams, stage, tasks)  # as every run begins
    told = {task.name: {"loss": 0.5, "spearman": -1.0, task.objective.metric: scores[task.name]} for task in tasks}
    trainer.hook.evaluated(stage=stage, step=step, scores=told)


FALLING = [
    {"sst": 0.4, "quora": 0.7, "sts": 0.2},
    {"sst": 0.5, "quora": 0.6, "sts": -0.3},
    {"sst": 0.1, "quora": 0.8, "sts": 0.3},
]


@pytest.mark.parametrize(
    ("given", "alpha", "floor"),
    [({}, 5.0, 0.05), ({"sst": 0.5}, 1.0, 0.5), ({"sst": 0.55, "quora": 0.9, "sts": 0.85}, 5.0, 0.05)],
)
def test_adaptive_shares_are_those_of_the_formula(given: dict[str, float], alpha: float, floor: float) -> None:
    trainer = trainer_of({"adaptive": Adaptive(given, alpha, floor)})
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [ALIKE]
    for number in range(3):
        tell(trainer, TOTAL * (number + 1), FALLING[number])
        expected = oracle(given, FALLING[: number + 1], alpha, floor)
        assert [counts(epoch) for epoch in epochs_of(trainer)] == [expected]


def test_adaptive_by_hand() -> None:
    """Half of its reference reached: 1 / (1/32 + 0.05) = 12.308, beside 1 / 1.05 = 0.952 twice; 1089.40, 84.30, 84.30."""
    trainer = trainer_of({"adaptive": Adaptive({"sst": 0.5, "quora": 0.8, "sts": 0.8})})
    tell(trainer, TOTAL, {"sst": 0.25, "quora": 0.8, "sts": 0.9})
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [(1090, 84, 84)]


def test_the_task_furthest_below_its_reference_gets_most_and_the_next_one_more_than_the_last() -> None:
    trainer = trainer_of({"adaptive": Adaptive({"sst": 0.5, "quora": 0.9, "sts": 0.9})})
    tell(trainer, TOTAL, {"sst": 0.49, "quora": 0.75, "sts": 0.5})  # 98 %, 83 % and 56 %
    (epoch,) = epochs_of(trainer)
    sst, quora, sts = counts(epoch)
    assert sts > 420 > sst
    assert sts > quora > sst


def test_a_task_without_a_reference_is_held_to_its_best_so_far() -> None:
    trainer = trainer_of({"adaptive": Adaptive()})
    tell(trainer, TOTAL, {"sst": 0.5, "quora": 0.8, "sts": 0.9})
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [ALIKE]  # each is its own best
    tell(trainer, 2 * TOTAL, {"sst": 0.6, "quora": 0.4, "sts": 0.9})
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [(84, 1090, 84)]
    tell(trainer, 3 * TOTAL, {"sst": 0.3, "quora": 0.8, "sts": 0.95})  # half of 0.6
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [(1090, 84, 84)]


def test_where_less_is_better_a_task_falls_behind_as_its_score_rises() -> None:
    """Twice the best error, or twice the reference, is half of it reached."""
    stars = replace(large("sst", 8_500), objective=Ordinal(5, metric="mae"))
    for adaptive in (Adaptive(), Adaptive({"sst": 0.4})):
        trainer = trainer_of({"adaptive": adaptive}, tasks=[stars, large("quora", 25_700), large("sts", 6_000)])
        tell(trainer, TOTAL, {"sst": 0.4, "quora": 0.8, "sts": 0.9})
        assert [counts(epoch) for epoch in epochs_of(trainer)] == [ALIKE]
        tell(trainer, 2 * TOTAL, {"sst": 0.8, "quora": 0.8, "sts": 0.9})
        assert [counts(epoch) for epoch in epochs_of(trainer)] == [(1090, 84, 84)]
        tell(trainer, 3 * TOTAL, {"sst": 0.0, "quora": 0.8, "sts": 0.9})
        assert [counts(epoch) for epoch in epochs_of(trainer)] == [ALIKE]


def test_the_scores_before_the_first_update_change_nothing() -> None:
    trainer = trainer_of({"adaptive": Adaptive({"sst": 0.5})})
    before = epochs_of(trainer)
    tell(trainer, 0, {"sst": 0.2, "quora": 0.99, "sts": -0.1})
    assert epochs_of(trainer) == before
    tell(trainer, TOTAL, {"sst": 0.5, "quora": 0.5, "sts": 0.5})
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [ALIKE]  # 0.99 was no best


def test_a_negative_correlation_counts_as_none() -> None:
    """1 / 0.05 = 20 beside 0.952 twice: 54.70, 54.70, 1148.61."""
    for negative in (-0.3, 0.0, -1.0):
        trainer = trainer_of({"adaptive": Adaptive()})
        tell(trainer, TOTAL, {"sst": 0.5, "quora": 0.8, "sts": negative})
        assert [counts(epoch) for epoch in epochs_of(trainer)] == [(55, 55, 1148)]


def test_a_task_that_is_not_scored_keeps_its_share() -> None:
    trainer = trainer_of({"adaptive": Adaptive({"sst": 0.5})})
    ((stage, tasks),) = stages_of(trainer)
    measure_length(trainer.hook, trainer.streams, stage, tasks)
    trainer.hook.evaluated(stage=stage, step=TOTAL, scores={"sst": {tasks[0].objective.metric: 0.5}})
    (epoch,) = epochs_of(trainer)
    assert counts(epoch) == (406, 426, 426)  # 0.952, 1 and 1: 405.81, 426.10, 426.10


def test_a_task_whose_own_score_is_not_defined_keeps_its_share() -> None:
    trainer = trainer_of({"adaptive": Adaptive({"sst": 0.5})})
    ((stage, tasks),) = stages_of(trainer)
    measure_length(trainer.hook, trainer.streams, stage, tasks)
    scores = {"sst": {tasks[0].objective.metric: 0.5}, "sts": {"loss": 1.0}}
    trainer.hook.evaluated(stage=stage, step=TOTAL, scores=scores)
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [(406, 426, 426)]


def test_a_reference_of_an_unknown_task_is_refused() -> None:
    trainer = trainer_of({"adaptive": Adaptive({"qora": 0.5})})
    ((stage, tasks),) = stages_of(trainer)
    with pytest.raises(PluginError) as refused:
        first_epoch(trainer, stage, tasks)
    assert str(refused.value) == "'adaptive' knows no task 'qora'. Did you mean 'quora'? Available: quora, sst, sts."
    for wrong in ({"reference": {"sst": 0}}, {"alpha": 0}, {"floor": 0}):
        with pytest.raises(PluginError, match=r"^'adaptive': .* should be greater than 0\.$"):
            catalog.make("adaptive", wrong)


def test_in_a_run_an_epochs_counts_follow_from_the_scores_before_it() -> None:
    log, adaptive = Log(), Adaptive({"sst": 0.9, "quora": 0.2, "sts": 0.05}, alpha=2.0)
    trainer_of({"adaptive": adaptive}, tasks=small(), epochs=3, observers=[log]).train()
    assert counts(log.steps[:10]) == (4, 3, 3)
    metrics = {task.name: task.objective.metric for task in small()}
    for number in (1, 2):
        step, scores = log.scores[number]
        assert step == 10 * number
        reached = [max(scores[name][metrics[name]], 0.0) / adaptive.reference[name] for name in metrics]
        shares = [1 / (min(1.0, each) ** 2 + 0.05) for each in reached]
        for count, share in zip(counts(log.steps[step : step + 10]), shares, strict=True):
            assert abs(count - 10 * share / sum(shares)) < 1
    assert counts(log.steps[10:20]) != (4, 3, 3)


def test_what_adaptive_knows_travels_in_its_state() -> None:
    trainer, other = (trainer_of({"adaptive": Adaptive({"sst": 0.5})}) for _ in range(2))
    epochs_of(trainer)
    tell(trainer, TOTAL, {"sst": 0.4, "quora": 0.8, "sts": 0.5})
    state = json.loads(json.dumps(trainer.state.plugins["adaptive"].state_dict()))
    other.state.plugins["adaptive"].load_state_dict(state)
    for each in (trainer, other):
        epochs_of(each)
        tell(each, 2 * TOTAL, {"sst": 0.45, "quora": 0.4, "sts": 0.6})
    assert epochs_of(other) == epochs_of(trainer)
    other.state.plugins["adaptive"].load_state_dict(state)
    assert state["best"]["quora"] == 0.8  # the state that was loaded is nobody's to change
