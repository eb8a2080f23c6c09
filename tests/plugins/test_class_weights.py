"""Class weights are scikit-learn's, the mean is over examples, and what has weights already is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from regkit_plugins.class_weights import ClassWeights
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional as F

from regkit import Batch, PluginError, Task
from regkit.testing import tiny_kinds, tiny_tasks, tiny_trainer
from regkit.training.stages import prepare
from tests.helpers import stages_of

TASKS = {task.name: task for task in [*tiny_tasks(), *tiny_kinds()]}
ABLE = ["classes", "binary", "features", "labels", "grades"]


def batch_of(task: Task) -> Batch:
    return task.splits["train"].batch([0, 3, 5, 6], [11, 12, 13, 14])


def begun(plugin: ClassWeights, tasks: list[Task]) -> object:
    """The hooks of a run whose stage has begun."""
    trainer = tiny_trainer({"class_weights": plugin}, tasks=tasks)
    ((stage, found),) = stages_of(trainer)
    prepare(trainer.hook, trainer.model, stage, found)
    return trainer.hook


def loss_of(plugin: ClassWeights, task: Task, output: Tensor) -> Tensor:
    return begun(plugin, [task]).task_loss(task=task, batch=batch_of(task), output=output)


def weights_of(labels: Tensor) -> np.ndarray:
    return compute_class_weight("balanced", classes=np.unique(labels), y=labels.numpy())


@pytest.mark.parametrize("name", ["classes", "binary", "grades"])
def test_the_loss_is_weighted_as_scikit_learn_balances_and_divided_by_the_examples(name: str) -> None:
    task = TASKS[name]
    train, labels = task.splits["train"].labels, batch_of(task).labels
    torch.manual_seed(0)
    output = torch.randn(4, task.objective.width).squeeze(1)
    each = [task.objective.loss(output[row : row + 1], labels[row : row + 1]) for row in range(4)]
    weights = weights_of(train)
    assert len(set(weights)) > 1
    expected = sum(weights[int(label)] * float(loss) for label, loss in zip(labels, each, strict=True)) / 4
    assert float(loss_of(ClassWeights(), task, output)) == pytest.approx(expected, rel=1e-5)


def test_each_label_of_a_multilabel_task_is_balanced_by_itself() -> None:
    task = TASKS["labels"]
    train, labels, output = task.splits["train"].labels, batch_of(task).labels, torch.randn(4, 3)
    expected = 0.0
    for column in range(3):
        weights = weights_of(train[:, column])
        losses = F.binary_cross_entropy_with_logits(output[:, column], labels[:, column].float(), reduction="none")
        expected += float((torch.from_numpy(weights)[labels[:, column]] * losses).mean()) / 3
    assert float(loss_of(ClassWeights(), task, output)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("name", ["classes", "binary", "grades"])
def test_weights_go_as_a_power_of_the_counts_with_a_mean_of_1(name: str, power: float) -> None:
    plugin, task = ClassWeights(power), TASKS[name]
    begun(plugin, [task])
    weights, labels = torch.tensor(plugin.weighted[name].weights), task.splits["train"].labels
    assert float(weights[labels].mean()) == pytest.approx(1, rel=1e-6)
    counts = torch.bincount(labels, minlength=len(weights)).double().clamp(min=1)
    assert float((weights * counts**power).std()) < 1e-5 * float((weights * counts**power).mean())


def test_a_power_of_0_and_a_task_that_is_not_named_have_their_own_loss() -> None:
    task, output = TASKS["classes"], torch.randn(4, 3)
    own = task.objective.loss(output, batch_of(task).labels)
    assert torch.equal(loss_of(ClassWeights(0.0), task, output), own)
    other = TASKS["binary"]
    hook = begun(ClassWeights(tasks=["binary"]), [task, other])
    assert torch.equal(hook.task_loss(task=task, batch=batch_of(task), output=output), own)


@pytest.mark.parametrize(
    ("tasks", "plugin", "says"),
    [
        (
            ["classes", "score"],
            ClassWeights(),
            "'class_weights' is not for task 'score', a regression task. Name those it is for",
        ),
        (["shares"], ClassWeights(), "'class_weights' is not for task 'shares', a soft task"),
        (
            ["rare"],
            ClassWeights(),
            "would replace the class weights that task 'rare' has already; keep one of the two.",
        ),
    ],
)
def test_what_it_cannot_weigh_is_refused_by_name(tasks: list[str], plugin: ClassWeights, says: str) -> None:
    with pytest.raises(PluginError) as caught:
        begun(plugin, [TASKS[name] for name in tasks])
    assert says in str(caught.value)


def test_a_task_without_training_labels_is_refused() -> None:
    task = TASKS["classes"]
    trainer = tiny_trainer({"class_weights": ClassWeights()}, tasks=[task])
    ((stage, _),) = stages_of(trainer)
    with pytest.raises(PluginError, match="finds no training labels of task 'classes'"):
        trainer.hook.prepare(model=trainer.model, stage=stage, tasks=[replace(task, splits={})])
