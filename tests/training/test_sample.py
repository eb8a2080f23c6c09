"""The sample: what is scored before the first update, what that costs, and who is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from regkit import hookimpl
from regkit.tasks.task import Examples, Stage, Task
from regkit.testing import tiny_tasks, tiny_trainer
from regkit.training.evaluation import Scores
from regkit.training.sample import PASSES, SHARE, choose_sample


def long_dev(times: int = 20) -> list[Task]:
    """Tiny tasks whose dev splits have each example many times."""
    found = []
    for task in tiny_tasks():
        dev = task.splits["dev"]
        assert isinstance(dev, Examples)
        found.append(replace(task, splits={**task.splits, "dev": dev.only(list(range(len(dev))) * times)}))
    return found


@dataclass
class Told:
    steps: list[int] = field(default_factory=list)

    @hookimpl
    def evaluated(self, step: int) -> None:
        self.steps.append(step)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_sample_costs_at_most_2_percent_of_training_and_nearly_that(frozen: bool) -> None:
    tasks, updates = long_dev(200), 600
    rows = choose_sample(tasks, updates, frozen=frozen)
    assert rows is not None
    batches = [task.splits["train"].lengths().sum() / task.batches for task in tasks]
    weights = [task.batches for task in tasks]
    passes = 1 if frozen else PASSES
    allowed = SHARE * passes * updates * float(np.average(batches, weights=weights))
    cost = {task.name: task.splits["dev"].lengths()[rows[task.name]].sum() for task in tasks}
    assert 0.8 * allowed < sum(cost.values()) <= allowed
    assert max(cost.values()) <= allowed / len(tasks)


def test_a_sample_is_drawn_from_the_whole_split_and_is_the_same_each_time() -> None:
    tasks = long_dev(100)
    rows, again = choose_sample(tasks, 150), choose_sample(tasks, 150)
    assert rows is not None
    assert again is not None
    for task in tasks:
        assert np.array_equal(rows[task.name], again[task.name])
        assert len(set(rows[task.name])) == len(rows[task.name])
        assert rows[task.name].max() > len(task.splits["dev"]) / 2


def test_the_shortest_training_still_scores_an_example_and_a_long_one_all() -> None:
    rows = choose_sample(long_dev(), 1)
    assert rows is not None
    assert all(len(each) == 1 for each in rows.values())
    assert choose_sample(long_dev(), 10**6) is None


def test_scores_of_a_sample_are_those_of_its_rows_and_plugins_are_not_told_of_them() -> None:
    told, samples = Told(), list[tuple[Scores, Mapping[str, int]]]()
    tasks = long_dev()
    trainer = tiny_trainer({}, tasks=tasks, steps=15, observers=[told])
    trainer.score_first = False
    rows = choose_sample(tasks, 15)
    assert rows is not None
    parts = []
    for task in tasks:
        dev = task.splits["dev"]
        assert isinstance(dev, Examples)
        parts.append(replace(task, splits={"dev": dev.only(rows[task.name].tolist())}))
    expected = trainer.evaluator.scores(trainer.model, parts, "dev")

    def sampled(stage: Stage, scores: Scores, examples: Mapping[str, int]) -> None:
        samples.append((scores, examples))

    trainer.sampled = sampled
    trainer.train()
    ((scores, examples),) = samples
    assert examples == {name: len(each) for name, each in rows.items()}
    for name, found in scores.items():
        assert found == pytest.approx(expected[name], rel=1e-5)
    assert told.steps
    assert 0 not in told.steps


def test_dev_is_scored_after_so_many_updates_and_at_the_end() -> None:
    told = Told()
    trainer = tiny_trainer({}, steps=8, observers=[told])
    trainer.eval_steps = 3
    trainer.train()
    assert told.steps == [0, 3, 6, 8]


def test_scoring_is_in_the_precision_of_training_and_its_time_is_counted() -> None:
    trainer = tiny_trainer({}, steps=1)
    halved = replace(trainer, passes=replace(trainer.passes, precision=torch.bfloat16))
    assert halved.evaluator.precision == torch.bfloat16
    trainer.train()
    assert trainer.evaluator.seconds > 0
