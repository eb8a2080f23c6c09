"""Dynamic weight average against weights computed by hand, epoch by epoch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from regkit_plugins.dwa import DWA

from regkit import hookimpl
from regkit.tasks.task import Stage
from regkit.testing import tiny_trainer
from tests.helpers import slow_but
from tests.plugins.updates import Noting, Raw, resumed, told, two


@dataclass
class Epochs:
    """Trains for whole epochs."""

    number: int = 4

    @hookimpl(wrapper=True)
    def stages(self) -> list[list[Stage]]:
        answers = yield
        return [[replace(stage, steps=None, epochs=self.number) for stage in answer] for answer in answers]


def dwa_by_hand(means: Sequence[Mapping[str, float]], temperature: float) -> dict[str, float]:
    """The weights of the epoch that follows these, of which there are two or more."""
    ratios = {name: means[-1][name] / means[-2][name] for name in means[-1]}
    total = sum(math.exp(ratio / temperature) for ratio in ratios.values())
    return {name: len(ratios) * math.exp(ratio / temperature) / total for name, ratio in ratios.items()}


@pytest.mark.parametrize("temperature", [2.0, 0.1])
def test_dwa_weighs_each_epoch_by_the_two_before_it(temperature: float) -> None:
    """Of losses as they are without weights; in the first two epochs all weights are 1."""
    plugin, raw = DWA(T=temperature), Raw()
    noting = Noting(plugin)
    trainer = tiny_trainer({"dwa": plugin, "epochs": Epochs(4), "raw": raw}, tasks=two(), observers=[noting])
    trainer.train()
    assert len(raw.losses) == len(noting.weights) == 20  # two and three batches an epoch
    means: list[dict[str, float]] = []
    for epoch in range(4):
        expected = dwa_by_hand(means, temperature) if epoch > 1 else {"classes": 1.0, "score": 1.0}
        losses: dict[str, list[float]] = {"classes": [], "score": []}
        for step in range(5 * epoch, 5 * epoch + 5):
            name, loss = raw.losses[step]
            losses[name].append(loss)
            weights = noting.weights[step]
            assert {each: weights.get(each, 1.0) for each in losses} == pytest.approx(expected, rel=1e-5)
            assert noting.told[step] == pytest.approx({name: loss * expected[name]}, rel=1e-5)
        means.append({name: sum(values) / len(values) for name, values in losses.items()})
    assert [len(values) for values in losses.values()] == [2, 3]
    assert plugin.weights == pytest.approx(dwa_by_hand(means, temperature), rel=1e-5)
    assert sum(plugin.weights.values()) == pytest.approx(2)
    assert abs(plugin.weights["classes"] - 1) > 1e-3


@pytest.mark.parametrize("after", slow_but([3, 5, 8, 12, 17], [5, 12]))
def test_a_dwa_stopped_anywhere_in_an_epoch_is_resumed_exactly(after: int) -> None:
    whole, again = resumed(lambda: {"dwa": DWA(T=0.5), "epochs": Epochs(4)}, two, after, ["dwa"])
    assert again["dwa"].weights == whole["dwa"].weights
    assert again["dwa"].before == whole["dwa"].before
    assert len(whole["dwa"].weights) == 2


def test_a_task_of_which_nothing_is_known_keeps_1() -> None:
    plugin = DWA()
    for losses in ({"a": 4.0}, {"a": 2.0, "new": 1.0}, {"a": 1.0, "new": 3.0}):
        plugin.after_step(told(losses))
        plugin.evaluated()
        if len(losses) == 1 or losses["new"] == 1.0:
            assert plugin.weights.get("new", 1.0) == 1.0
    assert plugin.weights["new"] > 1 > plugin.weights["a"]


def test_an_evaluation_before_the_first_step_counts_as_no_epoch() -> None:
    plugin = DWA()
    plugin.after_step(told({"a": 4.0, "b": 1.0}))
    plugin.evaluated()
    plugin.evaluated()
    plugin.after_step(told({"a": 2.0, "b": 1.0}))
    plugin.evaluated()
    assert plugin.weights == pytest.approx(dwa_by_hand([{"a": 4.0, "b": 1.0}, {"a": 2.0, "b": 1.0}], 2.0))


@pytest.mark.parametrize("rise", [100, 210, 250, 1e6])
def test_a_weight_that_becomes_tiny_is_forgotten_after_two_epochs_of_equal_losses(rise: float) -> None:
    """The weighted loss of such a task would be 0 in float32, and its unweighted loss lost."""
    plugin = DWA()
    for loss in (0.002, 0.002 * rise, 0.002 * rise):
        weighted = {"a": loss * plugin.weights.get("a", 1.0), "b": 0.5 * plugin.weights.get("b", 1.0)}
        plugin.after_step({name: {"task": torch.tensor(value)} for name, value in weighted.items()})
        plugin.evaluated()
        assert min(plugin.weights.values(), default=1.0) >= 1e-6
    assert plugin.before == pytest.approx({"a": 0.002 * rise, "b": 0.5})
    assert plugin.weights == pytest.approx({"a": 1.0, "b": 1.0})


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_mean_loss_that_is_not_finite_changes_no_weight(loss: float) -> None:
    plugin = DWA()
    for value in (1.0, loss, 1.0, 1.0):
        plugin.after_step(told({"a": value, "b": 1.0}))
        plugin.evaluated()
        assert plugin.weights.get("a", 1.0) == pytest.approx(1.0)
        assert plugin.weights.get("b", 1.0) == pytest.approx(1.0)
