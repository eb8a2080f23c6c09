"""Focal loss against its formula written out example by example, and what it leaves alone and refuses."""

import math

import pytest
import torch
from regkit_plugins.focal import Focal
from torch import Tensor

from regkit import Batch, Binary, Multilabel, Ordinal, PluginError, Task
from regkit.testing import tiny_kinds, tiny_tasks, tiny_trainer
from regkit.training.stages import prepare
from tests.helpers import slow_but, stages_of
from tests.plugins.oracle import chances_by_hand

TASKS = {task.name: task for task in [*tiny_tasks(), *tiny_kinds()]}
ABLE = ["classes", "binary", "features", "labels", "grades", "ranks", "rare", "spam"]


def batch_of(task: Task) -> Batch:
    return task.splits["train"].batch([0, 3, 5, 6], [11, 12, 13, 14])


def loss_of(plugin: Focal, task: Task, output: Tensor) -> Tensor:
    """The loss as the loop computes it."""
    found: Tensor = tiny_trainer({"focal": plugin}, tasks=[task]).hook.task_loss(
        task=task, batch=batch_of(task), output=output
    )
    return found


def output_of(task: Task) -> Tensor:
    torch.manual_seed(len(task.name))
    return 2 * torch.randn(4, task.objective.width).squeeze(1)


def by_hand(task: Task, output: Tensor, gamma: float) -> float:
    """Equation 5, example by example, and label by label of a multilabel task."""
    labels, weights = batch_of(task).labels, getattr(task.objective, "weights", ())
    total = 0.0
    for row, label in zip(output.double(), labels, strict=True):
        if isinstance(task.objective, Multilabel):
            chances = [
                float(1 / (1 + (-x).exp())) if y else float(1 / (1 + x.exp())) for x, y in zip(row, label, strict=True)
            ]
            total += sum(-((1 - p) ** gamma) * math.log(p) for p in chances) / len(chances)
            continue
        if isinstance(task.objective, Binary):
            p = 1 / (1 + math.exp(-float(row) if label else float(row)))
        else:
            p = float(chances_by_hand(task, row)[label])
        total += -(weights[label] if weights else 1) * (1 - p) ** gamma * math.log(p)
    return total / len(output)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("name", ABLE)
def test_the_loss_is_that_of_the_paper(name: str, gamma: float) -> None:
    task, output = TASKS[name], output_of(TASKS[name])
    assert float(loss_of(Focal(gamma), task, output)) == pytest.approx(by_hand(task, output, gamma), rel=1e-5)


@pytest.mark.parametrize("name", ABLE)
def test_a_gamma_of_0_is_the_tasks_own_loss_and_another_is_less(name: str) -> None:
    task, output = TASKS[name], output_of(TASKS[name])
    own = task.objective.loss(output, batch_of(task).labels)
    assert torch.equal(loss_of(Focal(0.0), task, output), own)
    assert torch.equal(loss_of(Focal(2.0, ["another"]), task, output), own)
    assert loss_of(Focal(2.0), task, output) < own


@pytest.mark.parametrize("gamma", slow_but([0.3, 1.0, 5.0], [0.3]))
@pytest.mark.parametrize("name", ABLE)
def test_gradients_are_finite_where_a_label_is_certain(name: str, gamma: float) -> None:
    task = TASKS[name]
    output = (1e3 * output_of(task)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(Focal(gamma), task, output), output)
    assert gradient.isfinite().all()


def test_mixed_labels_give_the_mixture_of_the_losses() -> None:
    task = TASKS["classes"]
    output, batch = output_of(task), batch_of(task)
    hook = tiny_trainer({"focal": Focal()}, tasks=[task]).hook
    one_hot = torch.eye(3)[batch.labels]

    def loss(targets: Tensor) -> Tensor:
        from dataclasses import replace

        return hook.task_loss(task=task, batch=replace(batch, labels=targets), output=output)

    mixture = loss(0.3 * one_hot + 0.7 * one_hot.flip(0))
    torch.testing.assert_close(mixture, 0.3 * loss(one_hot) + 0.7 * loss(one_hot.flip(0)))


def said(plugin: Focal, tasks: list[Task]) -> str:
    trainer = tiny_trainer({"focal": plugin}, tasks=tasks)
    ((stage, found),) = stages_of(trainer)
    with pytest.raises(PluginError) as caught:
        prepare(trainer.hook, trainer.model, stage, found)
    return str(caught.value)


def test_tasks_without_classes_are_refused_by_name() -> None:
    remedy = "Name those it is for: focal:tasks=classes,binary,features."
    assert said(Focal(), tiny_tasks()) == f"'focal' is not for task 'score', a regression task. {remedy}"
    assert said(Focal(), [TASKS["shares"]]).endswith("Leave 'focal' out.")
    assert "'focal' knows no task 'clases'. Did you mean 'classes'?" in said(Focal(tasks=["clases"]), tiny_tasks())


def test_ordinal_classes_are_weighed_by_the_chance_of_the_class() -> None:
    assert isinstance(TASKS["grades"].objective, Ordinal)
    task, output = TASKS["grades"], output_of(TASKS["grades"])
    chances = task.objective.probabilities(output).gather(1, batch_of(task).labels[:, None])
    expected = -((1 - chances) ** 3 * chances.log()).mean()
    torch.testing.assert_close(loss_of(Focal(3.0), task, output), expected, rtol=1e-5, atol=1e-6)
