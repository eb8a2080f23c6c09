"""Every plugin that weighs the tasks' losses: only the task's own loss, recorded by the meter, exact on resuming."""

from typing import Any

import pytest
import torch
from regkit_plugins.dwa import DWA
from regkit_plugins.fixed_weights import FixedWeights
from regkit_plugins.gradnorm import GradNorm
from regkit_plugins.l2sp import L2SP
from regkit_plugins.uncertainty import Uncertainty

from regkit import PluginError
from regkit.hooks import catalog
from regkit.testing import measured, same_weights, tiny_trainer
from tests.helpers import Both, slow_but
from tests.plugins.updates import CUT, WHOLE, compute, gradients, prepared, same, two, weighed


def test_a_state_is_a_copy() -> None:
    for plugin in (GradNorm(), DWA()):
        other = type(plugin)()
        plugin.weights = {"a": 1.5}
        other.load_state_dict(plugin.state_dict())
        other.weights["a"] = 0.5
        assert plugin.weights == {"a": 1.5}


@pytest.mark.parametrize("budget", slow_but([WHOLE, CUT], [CUT]))
@pytest.mark.parametrize("plugin", [DWA, GradNorm, FixedWeights])
def test_only_the_tasks_own_loss_is_weighed_and_so_is_its_gradient(plugin: type, budget: int) -> None:
    weights = {"classes": 0.3, "score": 1.7}
    weighing = plugin(weights) if plugin is FixedWeights else plugin()
    weighing.weights = weights
    trainer = prepared({"both": Both(), "weighing": weighing}, two())
    compute(trainer, two(), budget)
    same(gradients(trainer), weighed(weights, two(), budget))
    with_term = {"weighing": weighing, "l2sp": L2SP(weight=0.5)}
    ours = compute(prepared({"both": Both(), **with_term}, two()), two(), budget)
    bare = compute(prepared({"both": Both(), "l2sp": L2SP(weight=0.5)}, two()), two(), budget)
    for name, weight in weights.items():
        torch.testing.assert_close(ours[name]["task"], weight * bare[name]["task"])
        assert ours[name]["l2sp head"] == bare[name]["l2sp head"] != 0


@pytest.mark.parametrize(
    ("plugin", "options"),
    [
        ("fixed_weights", {"weights": {"classes": -1}}),
        ("fixed_weights", {}),
        ("dwa", {"T": 0}),
        ("gradnorm", {"alpha": -1}),
        ("gradnorm", {"learning_rate": 0}),
        ("uncertainty", {"learning_rate": 0}),
        ("famo", {"learning_rate": 0}),
        ("famo", {"weight_decay": -1}),
    ],
)
def test_options_out_of_range_are_refused(plugin: str, options: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match=plugin):
        catalog.make(plugin, options)


@pytest.mark.parametrize("plugin", [Uncertainty, GradNorm, DWA])
def test_the_meter_records_the_weight_of_each_task_and_changes_nothing(plugin: type) -> None:
    watched, composition, records = measured({"both": Both(), "it": plugin()}, tasks=two())
    unwatched = tiny_trainer({"both": Both(), "it": plugin()}, tasks=two())
    unwatched.train()
    same_weights(watched, unwatched)
    for name in ("classes", "score"):
        found = [record["measures"][name]["it"] for record in records]
        assert all(list(each) == [f"weight of {name}"] for each in found)
        assert found[0][f"weight of {name}"] == (0.5 if plugin is Uncertainty and name == "score" else 1.0)
        assert plugin is DWA or found[-1] != found[0]
    assert list(composition.plugins) == ["both", "it"]
