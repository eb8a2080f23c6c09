"""Attack: the points found are within the box, and no worse ones are at hand."""

from itertools import product

import pytest
import torch
from torch import Tensor

from regkit.model.modes import mode
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task
from regkit.testing import tiny_tasks, tiny_trainer
from regkit.training.attack import Attack, labels_of
from regkit.training.loop import Trainer

TASKS = [task.name for task in tiny_tasks()]


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    trainer = tiny_trainer({}, steps=12)
    trainer.train()
    return trainer


def batch_of(task: Task, rows: list[int]) -> Batch:
    return task.splits["dev"].batch(rows, rows)


def outputs(trainer: Trainer, task: Task, batch: Batch, attack: Attack) -> Tensor:
    with mode(trainer.model, training=False), torch.no_grad():
        return attack.outputs(trainer.model, task, batch)


def losses(task: Task, output: Tensor, batch: Batch) -> list[float]:
    pairs = zip(output.split(1), labels_of(batch).split(1), strict=True)
    return [float(task.objective.loss(*pair)) for pair in pairs]


@pytest.mark.parametrize("name", TASKS)
def test_every_example_is_as_wrong_as_it_was_or_more_and_the_more_the_larger_the_box(
    name: str, trainer: Trainer
) -> None:
    task = next(each for each in trainer.tasks if each.name == name)
    batch = batch_of(task, [0, 1, 2, 3, 4])
    none, small, large = (
        losses(task, outputs(trainer, task, batch, Attack(radius)), batch) for radius in (0.0, 0.05, 0.5)
    )
    with mode(trainer.model, training=False), torch.no_grad():
        clean = losses(task, trainer.model.predict(task, batch, trainer.model.embed(batch)), batch)
    assert none == pytest.approx(clean, rel=1e-5)
    assert all(one <= other for one, other in zip(clean, small, strict=True))
    assert sum(clean) < sum(small) < sum(large)


def test_it_finds_worse_points_than_random_corners_of_the_box(trainer: Trainer) -> None:
    task = trainer.tasks[0]
    batch, attack = batch_of(task, [0, 1, 2, 3, 4, 5]), Attack(0.3)
    found = losses(task, outputs(trainer, task, batch, attack), batch)
    with mode(trainer.model, training=False), torch.no_grad():
        embeddings = trainer.model.embed(batch)
        for _ in range(50):
            corner = torch.randn_like(embeddings).sign() * attack.radius * batch.rms(embeddings)
            there = losses(task, trainer.model.predict(task, batch, embeddings + corner), batch)
            assert all(ours >= theirs - 1e-6 for ours, theirs in zip(found, there, strict=True))


def test_the_moved_embeddings_stay_within_the_box(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    task = trainer.tasks[0]
    batch, attack, seen = batch_of(task, [0, 1, 2]), Attack(0.2), []
    predict = trainer.model.predict
    monkeypatch.setattr(trainer.model, "predict", lambda *given: seen.append(given[2].detach()) or predict(*given))
    outputs(trainer, task, batch, attack)
    clean = seen[0]
    box = 0.2 * batch.rms(clean)
    assert all(((moved - clean).abs() <= box * 1.0001).all() for moved in seen)
    assert ((seen[-1] - clean).abs() >= box * 0.999).float().mean() > 0.5  # most coordinates end on the edge


@pytest.mark.parametrize(("name", "parts"), list(product(TASKS, [[[0, 1, 2, 3]], [[0], [2, 1], [3]]])))
def test_what_is_found_does_not_depend_on_the_other_examples_of_the_batch(
    name: str, parts: list[list[int]], trainer: Trainer
) -> None:
    task = next(each for each in trainer.tasks if each.name == name)
    whole = outputs(trainer, task, batch_of(task, [0, 1, 2, 3]), Attack(0.1))
    for rows in parts:
        part = outputs(trainer, task, batch_of(task, rows), Attack(0.1))
        torch.testing.assert_close(part, whole[rows], rtol=1e-3, atol=1e-4)


def test_the_model_is_as_it_was(trainer: Trainer) -> None:
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    outputs(trainer, trainer.tasks[0], batch_of(trainer.tasks[0], [0, 1]), Attack(0.1))
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert all(parameter.grad is None for parameter in trainer.model.parameters()) or trainer.state.optimizer
