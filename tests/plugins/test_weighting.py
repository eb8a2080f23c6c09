"""Weights of the tasks' losses against hand-written ones: uncertainty, GradNorm, the dynamic average, FAMO and fixed weights."""

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from regkit_plugins.dwa import DWA
from regkit_plugins.famo import FAMO
from regkit_plugins.fixed_weights import FixedWeights
from regkit_plugins.gradnorm import GradNorm
from regkit_plugins.l2sp import L2SP
from regkit_plugins.pcgrad import PCGrad
from regkit_plugins.sam import SAM
from regkit_plugins.uncertainty import Uncertainty
from torch import Tensor

from regkit import PluginError, hookimpl
from regkit.data.order import Feed
from regkit.hooks import catalog
from regkit.tasks.objectives import Classification, Regression
from regkit.tasks.task import Stage, Task
from regkit.testing import Snapshot, measured, resume_is_exact, same_weights, tiny_task, tiny_tasks, tiny_trainer
from regkit.training.loop import Trainer, schedule
from regkit.training.stages import make_optimizer, prepare
from tests.helpers import Both, reevaluate, stages_of

WHOLE, CUT = 10_000, 15  # tokens in a micro-batch


@dataclass
class Raw:
    """Named last, it sees the losses as nobody has weighed them: one a step and task, where batches are whole."""

    losses: list[tuple[str, float]] = field(default_factory=list)

    @hookimpl(wrapper=True)
    def task_loss(self, task: Task) -> Tensor:
        loss = yield
        self.losses.append((task.name, float(loss.detach())))
        return loss


@dataclass
class Epochs:
    """Trains for whole epochs."""

    number: int = 4

    @hookimpl(wrapper=True)
    def stages(self) -> list[list[Stage]]:
        answers = yield
        return [[replace(stage, steps=None, epochs=self.number) for stage in answer] for answer in answers]


class Noting:
    """An observer that notes a plugin's weights, and the losses that are told, after every step."""

    def __init__(self, plugin: Any) -> None:
        self.plugin, self.weights, self.told = plugin, [], []

    @hookimpl(tryfirst=True)  # before the plugin looks at the step
    def after_step(self, losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.weights.append(dict(self.plugin.weights))
        self.told.append({name: float(terms["task"]) for name, terms in losses.items()})


class Stop(Snapshot):
    """Where an epoch ends with that step, the state after its evaluation, which is what a run keeps."""

    @hookimpl(trylast=True)
    def evaluated(self, step: int) -> None:
        self.after_step(step - 1)


def two() -> list[Task]:
    return [
        tiny_task("classes", Classification(3), size=10),
        tiny_task("score", Regression(0, 5), "cross_encoder", size=15),
    ]


def prepared(plugins: Mapping[str, Any], tasks: Sequence[Task], dropout: float = 0.1) -> Trainer:
    """A trainer in float64, as it is when its first update begins."""
    trainer = tiny_trainer(plugins, tasks=tasks, dropout=dropout)
    trainer.model.double().train()
    ((stage, found),) = stages_of(trainer)
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, found)
        trainer.state.optimizer = make_optimizer(trainer.hook, trainer.model, stage)
    return trainer


def compute(trainer: Trainer, tasks: Sequence[Task], budget: int = WHOLE) -> dict[str, dict[str, Tensor]]:
    """Leave the gradient of the first update in `.grad`; the losses."""
    chosen = [(task, Feed(task, 0, "finetune").micro_batches(0, budget)) for task in tasks]
    with trainer.streams.at("finetune", 0):
        return compute(trainer, trainer.state.optimizer, chosen)


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in trainer.model.named_parameters() if each.grad is not None}


def weighed(weights: Mapping[str, float], tasks: Sequence[Task], budget: int = WHOLE) -> dict[str, Tensor]:
    """The sum of each task's own gradient times its weight, by separate backward passes of no plugin."""
    total: dict[str, Tensor] = {}
    for task in tasks:
        trainer = prepared({}, tasks)
        compute(trainer, [task], budget)
        for name, gradient in gradients(trainer).items():
            total[name] = total.get(name, 0) + weights[task.name] * gradient
    return total


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        scale = float(tensor.abs().max())
        torch.testing.assert_close(
            ours[name], tensor, rtol=1e-9, atol=1e-10 * scale + 1e-14, msg=(name + ": {}").format
        )


def resumed(plugins: Any, tasks: Any, after: int, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plugins of a run that never stopped and of one that did, after their last step; the weights are held equal."""
    whole = plugins()
    first = tiny_trainer(whole, tasks=tasks())
    first.train()
    stop = Stop(after=after)
    stop.trainer = tiny_trainer(plugins(), tasks=tasks(), observers=[stop])
    stop.trainer.train()
    again = plugins()
    second = tiny_trainer(again, tasks=tasks())
    second.model.load_state_dict(stop.model)
    second.state.load(stop.training)
    for name in names:
        assert stop.training["plugins"][name]
    second.train()
    same_weights(second, first)
    return whole, again


# Uncertainty


@pytest.mark.parametrize("level", [-1.3, 0.0, 0.7])
@pytest.mark.parametrize("budget", [WHOLE, CUT])
def test_a_loss_is_weighed_by_its_level_as_the_paper_says(level: float, budget: int) -> None:
    """exp(-s) L + s / 2 for classes, one or many, and half of the former for scores; so is the gradient, also that of s."""
    for task in tiny_tasks():
        plugin = Uncertainty()
        trainer = prepared({"uncertainty": plugin}, tiny_tasks())
        with torch.no_grad():
            for name, s in plugin.levels.items():
                s.fill_(level if name == task.name else 99.0)
        losses = compute(trainer, [task], budget)
        bare = prepared({}, tiny_tasks())
        loss = float(compute(bare, [task], budget)[task.name]["task"])
        factor = math.exp(-level) / (2 if task.name in ("score", "cosine") else 1)
        assert float(losses[task.name]["task"]) == pytest.approx(factor * loss + level / 2, rel=1e-6)
        expected = {name: gradient * factor for name, gradient in gradients(bare).items()}
        for name, gradient in gradients(trainer).items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7)
        assert float(plugin.levels[task.name].grad) == pytest.approx(0.5 - factor * loss, rel=1e-5, abs=1e-6)
        assert all(s.grad is None for name, s in plugin.levels.items() if name != task.name)


def test_terms_of_regularizers_are_not_weighed_by_the_level() -> None:
    plugin = Uncertainty()
    trainer = prepared({"uncertainty": plugin, "l2sp": L2SP(weight=0.5)}, two())
    plain = prepared({"l2sp": L2SP(weight=0.5)}, two())
    with torch.no_grad():
        plugin.levels["classes"].fill_(2.0)
    ours, theirs = compute(trainer, two()[:1])["classes"], compute(plain, two()[:1])["classes"]
    assert ours["l2sp head"] == theirs["l2sp head"] != 0
    assert ours["task"] != theirs["task"]


def test_levels_are_in_the_optimizer_without_weight_decay_and_follow_the_schedule() -> None:
    plugin = Uncertainty(learning_rate=0.3)
    trainer = prepared({"uncertainty": plugin}, two())
    levels = {id(s) for s in plugin.levels.values()}
    (group,) = [g for g in trainer.state.optimizer.param_groups if levels & {id(each) for each in g["params"]}]
    assert {id(each) for each in group["params"]} == levels
    assert group["weight_decay"] == 0
    stage = stages_of(trainer)[0][0]
    rates = []
    for step in range(20):
        schedule(trainer.state.optimizer, stage, step, 20)
        rates.append([each["lr"] for each in trainer.state.optimizer.param_groups])
    assert max(rate[-1] for rate in rates) == pytest.approx(0.3)
    for first, _, last in rates:
        assert last == pytest.approx(first * 0.3 / stage.learning_rate)


def test_a_step_moves_the_level_of_its_task_as_adam_does_and_no_other() -> None:
    plugin = Uncertainty(learning_rate=0.3)
    trainer = tiny_trainer({"uncertainty": plugin}, tasks=two(), steps=1)
    raw = Raw()
    tiny_trainer({"raw": raw}, tasks=two(), steps=1).train()
    trainer.train()
    (name, loss) = raw.losses[0]
    factor = 0.5 if name == "score" else 1.0
    up = 1 if 0.5 - factor * loss < 0 else -1
    assert plugin.levels[name].item() == pytest.approx(0.3 * up, rel=1e-4)  # Adam's first step; no decay
    (other,) = {"classes", "score"} - {name}
    assert plugin.levels[other].item() == 0


def test_levels_are_in_the_checkpoint_and_a_resumed_run_is_exact() -> None:
    whole, again = resumed(lambda: {"uncertainty": Uncertainty(learning_rate=0.1)}, two, 3, ["uncertainty"])
    for name, s in whole["uncertainty"].levels.items():
        assert s.item() != 0
        assert torch.equal(s, again["uncertainty"].levels[name])
    other = Uncertainty()
    prepared({"uncertainty": other}, two())
    other.load_state_dict(copy.deepcopy(whole["uncertainty"].state_dict()))
    assert all(torch.equal(s, other.levels[name]) for name, s in whole["uncertainty"].levels.items())
    assert all(isinstance(s, torch.nn.Parameter) for s in other.levels.values())


class Given:
    """Losses that do not depend on the model: a noisy task and a quiet one."""

    @hookimpl
    def task_loss(self, task: Task, output: Tensor) -> Tensor:
        return 0 * output.sum() + (4.0 if task.name.startswith("noisy") else 0.05)


def test_the_factor_of_a_noisy_task_falls_and_that_of_a_quiet_one_rises() -> None:
    tasks = [
        tiny_task("noisy classes", Classification(3)),
        tiny_task("quiet classes", Classification(3)),
        tiny_task("noisy score", Regression(0, 5)),
        tiny_task("quiet score", Regression(0, 5)),
    ]
    plugin = Uncertainty(learning_rate=0.25)
    trainer = tiny_trainer({"both": Both(), "given": Given(), "uncertainty": plugin}, tasks=tasks, steps=40)
    trainer.train()
    for task in tasks:
        ((name, factor),) = plugin.measure(task).items()
        assert name == f"weight of {task.name}"
        loss = 4.0 if task.name.startswith("noisy") else 0.05
        start = 0.5 if isinstance(task.objective, Regression) else 1.0
        best = 1 / (2 * loss)  # exp(-s) is 1 / L for a score, and half of that for classes
        assert (float(factor) < start) == (best < start), task.name
        assert 0.5 < float(factor) / best < 2, task.name


# GradNorm


def told(losses: Mapping[str, float]) -> dict[str, dict[str, Tensor]]:
    return {name: {"task": torch.tensor(value, dtype=torch.float64)} for name, value in losses.items()}


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


def test_a_task_that_does_not_pull_leaves_the_weights_alone() -> None:
    plugin = GradNorm()
    feed(plugin, ["a", "b"], torch.tensor([0.0, 1.0]).double(), torch.ones(2).double())
    assert plugin.weights == {}


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
    trainer = tiny_trainer(plugins, tasks=tiny_tasks()[:3], observers=[noting])
    trainer.train()
    names = [task.name for task in tiny_tasks()[:3]]
    losses = torch.tensor([loss for _, loss in raw.losses]).double().view(-1, 3)
    assert [name for name, _ in raw.losses[:3]] == names
    weights = torch.ones(3).double()
    for step, norms in enumerate(seen):
        found = noting.weights[step]
        assert [found.get(name, 1.0) for name in names] == pytest.approx(weights.tolist(), rel=1e-4)
        weighted = [weight * loss for weight, loss in zip(weights.tolist(), losses[step].tolist(), strict=True)]
        assert list(noting.told[step].values()) == pytest.approx(weighted, rel=1e-4)
        weights = gradnorm_by_hand(weights, norms / weights, losses[step], losses[0], 1.5, 0.1)
    assert list(plugin.weights.values()) == pytest.approx(weights.tolist(), rel=1e-4)
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


def test_a_state_is_a_copy() -> None:
    for plugin in (GradNorm(), DWA()):
        other = type(plugin)()
        plugin.weights = {"a": 1.5}
        other.load_state_dict(plugin.state_dict())
        other.weights["a"] = 0.5
        assert plugin.weights == {"a": 1.5}


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


# Dynamic weight average


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


@pytest.mark.parametrize("after", [3, 5, 8, 12, 17])
def test_a_dwa_stopped_anywhere_in_an_epoch_is_resumed_exactly(after: int) -> None:
    whole, again = resumed(lambda: {"dwa": DWA(T=0.5), "epochs": Epochs(4)}, two, after, ["dwa"])
    assert again["dwa"].weights == whole["dwa"].weights
    assert again["dwa"].before == whole["dwa"].before
    assert len(whole["dwa"].weights) == 2


@pytest.mark.parametrize("budget", [WHOLE, CUT])
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


# FAMO


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


@pytest.mark.parametrize("others", [{}, {"sam": SAM()}, {"pcgrad": PCGrad()}])
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


# Fixed weights


def test_a_run_with_fixed_weights_is_that_of_losses_times_their_weights() -> None:
    class Times:
        @hookimpl(wrapper=True)
        def task_loss(self, task: Task) -> Tensor:
            loss = yield
            return 0.25 * loss if task.name == "score" else loss

    ours, theirs = tiny_trainer({"it": FixedWeights({"score": 0.25})}), tiny_trainer({"it": Times()})
    plain = tiny_trainer({})
    for trainer in (ours, theirs, plain):
        trainer.train()
    same_weights(ours, theirs)
    with pytest.raises(AssertionError):
        same_weights(ours, plain)


def test_a_task_of_weight_0_is_not_learned_and_hurts_nobody() -> None:
    plugin = FixedWeights({"score": 0.0})
    trainer = prepared({"both": Both(), "it": plugin}, two())
    losses = compute(trainer, two())
    assert float(losses["score"]["task"]) == 0
    same(gradients(trainer), weighed({"classes": 1.0, "score": 0.0}, two()))
    run = tiny_trainer({"both": Both(), "it": plugin, "pcgrad": PCGrad(), "gradnorm": GradNorm()}, tasks=two())
    run.train()
    assert all(torch.isfinite(each).all() for each in run.model.parameters())


def test_an_unknown_task_is_refused_before_the_run() -> None:
    sentence = "'fixed_weights' knows no task 'clases'. Did you mean 'classes'? Available: classes, score."
    with pytest.raises(PluginError, match=f"^{re.escape(sentence)}$"):
        tiny_trainer({"it": FixedWeights({"clases": 2.0})}, tasks=two()).train()


def test_weights_of_0_alone_are_refused_before_the_run() -> None:
    sentence = "'fixed_weights' has only weights of 0; nothing would be trained."
    with pytest.raises(PluginError, match=f"^{re.escape(sentence)}$"):
        tiny_trainer({"it": FixedWeights({"classes": 0.0, "score": 0.0})}, tasks=two()).train()
    tiny_trainer({"it": FixedWeights({"classes": 0.0})}, tasks=two(), steps=1).train()


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


# The effect meter


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


@pytest.mark.parametrize("plugin", [Uncertainty, GradNorm, DWA, FAMO])
def test_with_several_tasks_a_step_a_resumed_run_is_exact(plugin: type) -> None:
    resume_is_exact(lambda: {"both": Both(), "it": plugin()}, two)
