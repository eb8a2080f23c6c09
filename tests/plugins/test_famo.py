"""FAMO against its Algorithm 1, from losses that the test measures itself."""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from regkit_plugins.famo import FAMO
from regkit_plugins.pcgrad import PCGrad
from regkit_plugins.sam import SAM
from torch import Tensor

from regkit import hookimpl
from regkit.data.order import Feed
from regkit.testing import measured, tiny_trainer
from tests.helpers import Both, reevaluate
from tests.plugins.updates import CUT, WHOLE, compute, gradients, prepared, resumed, told, two, weighed


def famo_weights(xi: Tensor, losses: Tensor) -> Tensor:
    """Algorithm 1 of the paper: c z / L, with c = 1 / sum (z / L)."""
    z = torch.exp(xi) / torch.exp(xi).sum()
    return (1 / (z / losses).sum()) * z / losses


def losses_now(**values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


class ByHand:
    """The xi of a run, from what it is told of the losses before and after each update."""

    def __init__(self, count: int, rate: float, decay: float) -> None:
        self.xi = torch.zeros(count)
        self.adam = torch.optim.Adam([self.xi], lr=rate, weight_decay=decay)

    def move(self, before: Tensor, after: Tensor) -> None:
        z = torch.exp(self.xi) / torch.exp(self.xi).sum()
        jacobian = torch.diag(z) - torch.outer(z, z)  # of z, whose row i is the gradient of z_i
        self.xi.grad = jacobian.T @ (torch.log(before) - torch.log(after))
        self.adam.step()


def test_a_loss_that_overflows_after_the_update_leaves_the_xi_alone() -> None:
    plugin = FAMO()
    prepared({"both": Both(), "famo": plugin}, two())
    after = losses_now(classes=float("inf"), score=1.0)
    plugin.after_step(told({"classes": 1.0, "score": 1.0}), lambda: after)
    assert plugin._shares(["classes", "score"]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("budget", [WHOLE, CUT])
def test_famo_follows_the_weighed_sum_of_the_tasks_own_gradients_heads_included(budget: int) -> None:
    plugin = FAMO()
    trainer = prepared({"both": Both(), "famo": plugin}, two())
    with torch.no_grad():
        plugin.xi["classes"].fill_(0.8)
        plugin.xi["score"].fill_(-0.3)
    bare = compute(prepared({"both": Both()}, two()), two(), budget)
    losses = torch.stack([bare[task.name]["task"] for task in two()])
    weights = famo_weights(torch.tensor([0.8, -0.3]).double(), losses).tolist()
    told = compute(trainer, two(), budget)
    ours, expected = gradients(trainer), weighed(dict(zip(["classes", "score"], weights, strict=True)), two(), budget)
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-8)
    assert sum(weights) == pytest.approx(1)
    assert {name: float(terms["task"]) for name, terms in told.items()} == {
        name: float(terms["task"]) for name, terms in bare.items()
    }


@pytest.mark.parametrize("others", [{}, {"sam": SAM(), "pcgrad": PCGrad()}])
def test_the_xi_of_a_run_are_those_of_algorithm_1(others: Mapping[str, Any]) -> None:
    """The losses before and after every update are measured by the test's own passes, under the masks of the update."""
    plugin, hand = FAMO(learning_rate=0.2, weight_decay=0.01), ByHand(2, 0.2, 0.01)
    found: list[tuple[Tensor, Tensor]] = []

    class Passes:
        before: Tensor

        @hookimpl(tryfirst=True)
        def before_step(self) -> None:
            self.before = self.losses()

        @hookimpl(tryfirst=True)
        def after_step(self) -> None:
            found.append((self.before, self.losses()))

        @torch.no_grad()
        def losses(self) -> Tensor:
            step, values = trainer.state.position.step - ("before" in vars(self)), []
            for task in two():
                ((batch,),) = [Feed(task, 0, "finetune").micro_batches(step, WHOLE)]
                with trainer.streams.at("finetune", step, task.name, 0), trainer.streams.seeded("dropout"):
                    output = trainer.model.predict(task, batch, trainer.model.embed(batch))
                values.append(task.objective.loss(output, batch.labels))
            if "before" in vars(self):
                del self.before
            return torch.stack(values)

    trainer = tiny_trainer({"both": Both(), "famo": plugin, **others}, tasks=two(), observers=[Passes()])
    trainer.train()
    for before, after in found:
        hand.move(before, after)
    assert len(found) == 6
    torch.testing.assert_close(torch.stack(list(plugin.xi.values())).detach(), hand.xi, rtol=1e-3, atol=1e-4)
    assert hand.xi.abs().min() > 0.04


def test_a_task_whose_loss_falls_more_slowly_gets_a_larger_share() -> None:
    plugin = FAMO(learning_rate=0.1)
    trainer = prepared({"both": Both(), "famo": plugin}, two())
    for _ in range(5):
        plugin.after_step(told({"classes": 1.0, "score": 1.0}), partial(losses_now, classes=0.9, score=0.5))
    assert plugin.xi["classes"] > 0.1 > -0.1 > plugin.xi["score"]
    rows = torch.ones(2, 3)
    around = plugin.combine_gradients(two(), rows, told({"classes": 1.0, "score": 4.0}))
    next(around)
    assert plugin.factors["classes"] > 4 * plugin.factors["score"]  # the share, over the loss
    assert trainer.model.heads is plugin.heads


def test_a_batch_in_parts_is_reevaluated_to_the_loss_of_the_whole_and_leaves_no_graph() -> None:
    trainer, losses = prepared({}, two(), dropout=0.0), {}
    for budget in (WHOLE, CUT):
        chosen = [(task, Feed(task, 0, "finetune").micro_batches(0, budget)) for task in two()]
        losses[budget] = reevaluate(trainer, chosen)
        assert not any(loss.requires_grad for loss in losses[budget].values())
    torch.testing.assert_close(losses[CUT], losses[WHOLE], rtol=1e-6, atol=0)


def test_famos_weights_are_in_the_checkpoint_for_the_meter() -> None:
    whole, again = resumed(lambda: {"both": Both(), "famo": FAMO(learning_rate=0.2)}, two, 2, ["famo"])
    assert again["famo"].weights == whole["famo"].weights
    other = FAMO()
    prepared({"famo": other}, two())
    other.load_state_dict(copy.deepcopy(whole["famo"].state_dict()))
    assert other.weights == whole["famo"].weights != {}


def test_a_loss_of_0_or_a_step_of_one_task_does_no_harm() -> None:
    plugin = FAMO()
    prepared({"both": Both(), "famo": plugin}, two())
    plugin.after_step(told({"classes": 1.0}), lambda: pytest.fail("nothing to compare"))
    assert not any(plugin.xi.values())
    rows = torch.ones(2, 3)
    next(plugin.combine_gradients(two(), rows, told({"classes": 0.0, "score": 1.0})))
    plugin.after_step(told({"classes": 0.0, "score": 1.0}), partial(losses_now, classes=0.0, score=0.5))
    assert rows.isfinite().all()
    assert all(xi.isfinite() for xi in plugin.xi.values())


def test_the_meter_shows_famos_weights_and_counts_its_passes() -> None:
    _, _, records = measured({"both": Both(), "famo": FAMO(learning_rate=0.5)}, tasks=two())
    weights = [
        {name: each["measures"][name]["famo"][f"weight of {name}"] for name in ("classes", "score")}
        for each in records[1:]
    ]
    assert all(sum(each.values()) == pytest.approx(1) for each in weights)
    assert len({each["score"] for each in weights}) > 1
    assert all(record["passes"]["famo"] == 2 for record in records)
