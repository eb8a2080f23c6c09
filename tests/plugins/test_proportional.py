"""Proportional: every example of every task once an epoch."""

import itertools
from collections import Counter

from regkit_plugins.proportional import Proportional

from regkit.data.order import Feed
from regkit.testing import Probe
from tests.plugins.turns import course, epochs_of, small, trainer_of


def test_proportional_gives_every_example_of_every_task_once_an_epoch() -> None:
    tasks = course()
    feeds = {task.name: Feed(task, 0, "finetune") for task in tasks}
    given: Counter[str] = Counter()
    for epoch in epochs_of(trainer_of({"scheduler": Proportional()}, epochs=2)):
        rows: dict[str, list[int]] = {name: [] for name in feeds}
        for (name,) in epoch:
            rows[name] += feeds[name].rows(given[name])
            given[name] += 1
        for task in tasks:
            assert sorted(rows[task.name]) == list(range(len(task.splits["train"])))


def test_a_proportional_run_trains_on_every_example_once_an_epoch() -> None:
    probe = Probe()
    trainer_of({"proportional": Proportional(), "probe": probe}, tasks=small(), epochs=2).train()
    for task in small():
        for epoch in range(2):
            batches = [rows for step, rows in probe.rows[task.name].items() if step // 10 == epoch]
            found = sorted(itertools.chain.from_iterable(batches))
            assert found == list(range(len(task.splits["train"])))
