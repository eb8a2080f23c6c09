"""Weighted: shares of an epoch from weights of one's own, computed by hand."""

import itertools

import pytest
import torch
from regkit_plugins.weighted import Weighted

from regkit import PluginError
from regkit.cli.plan import first_epoch
from regkit.hooks import catalog
from tests.helpers import stages_of
from tests.plugins.turns import TOTAL, Counts, Log, counted, small, trainer_of


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 2, 1), (315, 629, 314)),  # 314.5, 629, 314.5
        ((0.1, 0.2, 0.1), (315, 629, 314)),
        ((1, 0, 3), (315, 0, 943)),  # 314.5, 0, 943.5
        ((0, 0, 1), (0, 0, TOTAL)),
    ],
)
def test_weighted_by_hand(weights: tuple[float, ...], expected: Counts) -> None:
    named = dict(zip(("sts", "quora", "sst"), reversed(weights), strict=True))  # their order is not that of the tasks
    assert counted(catalog.make("weighted", {"weights": named}), epochs=2) == [expected, expected]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"sst": 1, "quroa": 1}, "'weighted' knows no task 'quroa'. Did you mean 'quora'? Available: quora, sst, sts."),
        ({"sst": 1, "quora": 2}, "'weighted' has no weight for task 'sts'; 0 leaves a task out."),
        ({"sst": 0, "quora": 0, "sts": 0}, "'weighted' has only weights of 0; nothing would be trained."),
    ],
)
def test_weights_that_do_not_fit_the_tasks_are_refused(weights: dict[str, float], said: str) -> None:
    trainer = trainer_of({"weighted": Weighted(weights)})
    ((stage, tasks),) = stages_of(trainer)
    with pytest.raises(PluginError) as refused:
        first_epoch(trainer, stage, tasks)
    assert str(refused.value) == said


def test_a_negative_weight_and_no_weights_are_refused() -> None:
    with pytest.raises(PluginError, match=r"^'weighted': weights.sst is -1; "):
        catalog.make("weighted", {"weights": {"sst": -1}})
    with pytest.raises(PluginError, match=r"^'weighted' needs weights: "):
        catalog.make("weighted", {})


def test_a_task_of_weight_0_is_scored_but_not_trained() -> None:
    log = Log()
    weights = {"sst": 0.0, "quora": 1.0, "sts": 1.0}
    trainer = trainer_of({"weighted": Weighted(weights)}, tasks=small(), observers=[log])
    before = {name: weight.clone() for name, weight in trainer.model.heads["sst"].named_parameters()}
    trainer.train()
    assert "sst" not in itertools.chain.from_iterable(log.steps)
    assert "sst" in log.scores[-1][1]
    for name, weight in trainer.model.heads["sst"].named_parameters():
        assert torch.equal(weight, before[name])
