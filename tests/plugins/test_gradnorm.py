"""GradNorm against a hand-written update by autograd, on given norms and in a run."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from regkit_plugins.gradnorm import GradNorm
from regkit_plugins.pcgrad import PCGrad
from torch import Tensor

from regkit import hookimpl
from regkit.tasks.task import Task
from regkit.testing import tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from tests.helpers import Both
from tests.plugins.updates import (
    CUT,
    WHOLE,
    Noting,
    Raw,
    compute,
    gradients,
    prepared,
    resumed,
    same,
    told,
    two,
    weighed,
)


def gradnorm_by_hand(
    weights: Tensor, norms: Tensor, losses: Tensor, first: Tensor, alpha: float, rate: float
) -> Tensor:
    """One update of the weights, by autograd; norms and losses are those without weights."""
    w = weights.clone().requires_grad_()
    pulls = w * norms
    relative = (losses / first) / (losses / first).mean()
    target = (pulls.mean() * relative**alpha).detach()
    (pulls - target).abs().sum().backward()
    moved = weights - rate * w.grad / pulls.detach().mean()
    return moved * len(moved) / moved.sum()


def feed(plugin: GradNorm, names: Sequence[str], norms: Tensor, losses: Tensor) -> None:
    """A step of a trainer whose tasks have gradients of these norms and these losses, without weights."""
    tasks = [SimpleNamespace(name=name) for name in names]
    weights = torch.tensor([plugin.weights.get(name, 1.0) for name in names], dtype=torch.float64)
    rows = torch.eye(len(names), 6, dtype=torch.float64) * (weights * norms)[:, None]
    around = plugin.combine_gradients(tasks, rows)
    next(around)
    with pytest.raises(StopIteration) as done:
        around.send("the answer")
    assert done.value.value == "the answer"
    plugin.after_step(told(dict(zip(names, (weights * losses).tolist(), strict=True))))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_gradnorm_is_the_hand_written_one_over_many_steps(alpha: float, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    names = [f"t{number}" for number in range(count)]
    plugin, weights, first = GradNorm(alpha=alpha, learning_rate=0.05), torch.ones(count).double(), None
    for _ in range(12):
        norms = torch.rand(count, generator=generator, dtype=torch.float64) * 4 + 0.5
        losses = torch.rand(count, generator=generator, dtype=torch.float64) + 0.2
        first = losses if first is None else first
        feed(plugin, names, norms, losses)
        weights = gradnorm_by_hand(weights, norms, losses, first, alpha, 0.05)
        assert list(plugin.weights) == names
        assert list(plugin.weights.values()) == pytest.approx(weights.tolist(), rel=1e-9)
        assert sum(plugin.weights.values()) == pytest.approx(count)
    assert max(abs(weight - 1) for weight in plugin.weights.values()) > 1e-3


def test_alpha_0_drives_the_pulls_together() -> None:
    norms, losses = torch.tensor([1.0, 10.0, 3.0]).double(), torch.tensor([1.0, 2.0, 0.5]).double()
    plugin = GradNorm(alpha=0.0, learning_rate=0.01)
    for _ in range(400):
        feed(plugin, ["a", "b", "c"], norms, losses)
    pulls = torch.tensor(list(plugin.weights.values())) * norms
    assert float(pulls.max() / pulls.min()) < 1.3
    assert sum(plugin.weights.values()) == pytest.approx(3)


def test_a_slow_task_pulls_harder() -> None:
    plugin = GradNorm(alpha=1.0, learning_rate=0.01)
    norms = torch.ones(2).double()
    feed(plugin, ["slow", "fast"], norms, torch.tensor([3.0, 0.3]).double())
    for _ in range(300):
        feed(plugin, ["slow", "fast"], norms, torch.tensor([2.0, 0.1]).double())  # 2/3 and 1/3 of the first losses
    assert plugin.weights["slow"] / plugin.weights["fast"] == pytest.approx(2.0, rel=0.1)


def test_no_weight_becomes_0_or_less_however_long_the_step() -> None:
    plugin = GradNorm(alpha=0.0, learning_rate=5.0)
    for _ in range(5):
        feed(plugin, ["a", "b"], torch.tensor([1.0, 100.0]).double(), torch.ones(2).double())
        assert min(plugin.weights.values()) > 0
        assert sum(plugin.weights.values()) == pytest.approx(2)


@pytest.mark.parametrize("norm", [0.0, float("inf")])
def test_a_task_without_a_pull_or_with_an_endless_one_leaves_the_weights_alone(norm: float) -> None:
    plugin = GradNorm()
    plugin.pulls = {"a": norm, "b": 1.0}
    plugin.after_step(told({"a": 1.0, "b": 1.0}))
    assert plugin.weights == {}


def test_the_loss_of_a_task_with_a_tiny_weight_is_that_without_its_weight() -> None:
    plugin = GradNorm()
    plugin.weights = {"a": 1e-7, "b": 2.0}
    feed(plugin, ["a", "b"], torch.ones(2).double(), torch.tensor([0.002, 0.5]).double())
    assert plugin.first == pytest.approx({"a": 0.002, "b": 0.5})


def test_in_a_run_gradnorm_has_the_gradients_and_losses_of_the_tasks_alone() -> None:
    """Every step is held to the paper's rule, from the rows that were combined and from losses nobody has weighed."""
    plugin, raw, seen = GradNorm(learning_rate=0.1), Raw(), []

    class Rows:
        @hookimpl(wrapper=True)
        def combine_gradients(self, tasks: Sequence[Task], gradients: Tensor) -> Tensor:
            seen.append(gradients.double().norm(dim=1))
            return (yield)

    plugins = {"both": Both(), "gradnorm": plugin, "pcgrad": PCGrad(), "rows": Rows(), "raw": raw}
    noting = Noting(plugin)
    trainer = tiny_trainer(plugins, tasks=unscored(tiny_tasks()[:3]), observers=[noting])
    trainer.train()
    names = [task.name for task in tiny_tasks()[:3]]
    losses = torch.tensor([loss for _, loss in raw.losses]).double().view(-1, 3)
    assert [name for name, _ in raw.losses[:3]] == names
    weights = torch.ones(3).double()
    for step, norms in enumerate(seen):
        found = noting.weights[step]
        assert [found.get(name, 1.0) for name in names] == pytest.approx(weights.tolist(), rel=1e-3)
        weighted = [weight * loss for weight, loss in zip(weights.tolist(), losses[step].tolist(), strict=True)]
        assert list(noting.told[step].values()) == pytest.approx(weighted, rel=1e-3)
        weights = gradnorm_by_hand(weights, norms / weights, losses[step], losses[0], 1.5, 0.1)
    assert list(plugin.weights.values()) == pytest.approx(weights.tolist(), rel=1e-3)
    assert len(seen) == 6


@pytest.mark.parametrize("budget", [WHOLE, CUT])
def test_the_model_has_the_gradient_of_the_weighed_losses_and_nothing_of_the_weights(budget: int) -> None:
    plugin = GradNorm()
    trainer = prepared({"both": Both(), "gradnorm": plugin}, two())
    plugin.weights = {"classes": 0.25, "score": 1.75}
    losses = compute(trainer, two(), budget)
    ours = gradients(trainer)
    same(ours, weighed(plugin.weights, two(), budget))
    before = {name: each.detach().clone() for name, each in trainer.model.named_parameters()}
    trainer.hook.after_step(model=trainer.model, step=0, total_steps=9, losses=losses, reevaluate=None)
    assert plugin.weights != {"classes": 0.25, "score": 1.75}
    same(gradients(trainer), ours)
    assert all(torch.equal(each, before[name]) for name, each in trainer.model.named_parameters())
    assert len(trainer.state.optimizer.param_groups) == 2  # the weights are not in it


def test_gradnorm_resumes_with_the_weights_and_the_first_losses() -> None:
    def plugins() -> dict[str, Any]:
        return {"both": Both(), "gradnorm": GradNorm(learning_rate=0.2)}

    whole, again = resumed(plugins, two, 2, ["gradnorm"])
    assert again["gradnorm"].weights == whole["gradnorm"].weights
    assert again["gradnorm"].first == whole["gradnorm"].first
    assert whole["gradnorm"].weights


class Alternating:
    """All tasks in even steps, one in odd ones."""

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task], step: int) -> Sequence[Task]:
        return tasks if step % 2 == 0 else tasks[:1]

    @hookimpl
    def epoch_steps(self) -> int:
        return 4


def test_a_step_of_one_task_leaves_the_weights_alone() -> None:
    """The norms of the step before are no longer true."""
    plugin = GradNorm(learning_rate=0.2)
    noting = Noting(plugin)
    tiny_trainer({"scheduler": Alternating(), "gradnorm": plugin}, tasks=two(), observers=[noting]).train()
    assert noting.weights[0] == {} != noting.weights[1] == noting.weights[2]  # as they were before steps 1 and 2
    assert noting.weights[2] != noting.weights[3] == noting.weights[4]
