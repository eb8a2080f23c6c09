"""Uncertainty weighting against the paper's formula and hand-written steps."""

import copy
import math
from itertools import product

import pytest
import torch
from regkit_plugins.l2sp import L2SP
from regkit_plugins.uncertainty import Uncertainty
from torch import Tensor

from regkit import hookimpl
from regkit.tasks.objectives import Classification, Regression
from regkit.tasks.task import Task
from regkit.testing import tiny_task, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.stages import set_rates
from tests.helpers import Both, stages_of
from tests.plugins.cases import table
from tests.plugins.updates import CUT, WHOLE, Raw, compute, gradients, prepared, resumed, two


@pytest.mark.parametrize(
    ("level", "budget"), table(product([-1.3, 0.0, 0.7], [WHOLE, CUT]), [(-1.3, WHOLE), (0.7, CUT)])
)
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
        set_rates(trainer.hook, trainer.state.optimizer, stage, step, 20)
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
    trainer = tiny_trainer({"both": Both(), "given": Given(), "uncertainty": plugin}, tasks=unscored(tasks), steps=24)
    trainer.train()
    for task in tasks:
        ((name, factor),) = plugin.measure(task).items()
        assert name == f"weight of {task.name}"
        loss = 4.0 if task.name.startswith("noisy") else 0.05
        start = 0.5 if isinstance(task.objective, Regression) else 1.0
        best = 1 / (2 * loss)  # exp(-s) is 1 / L for a score, and half of that for classes
        assert (float(factor) < start) == (best < start), task.name
        assert 0.5 < float(factor) / best < 2, task.name
