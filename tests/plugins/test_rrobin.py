"""Round robin: the order of the turns and the end of an epoch, counted by hand."""

import itertools
from typing import Any

import pytest
from regkit_plugins.rrobin import RoundRobin

from regkit import PluginError
from regkit.cli.plan import first_epoch
from regkit.hooks import catalog
from regkit.testing import Probe
from tests.helpers import stages_of
from tests.plugins.turns import Log, counts, epochs_of, large, small, trainer_of


def test_round_robin_goes_around_in_the_order_of_the_tasks() -> None:
    (epoch,) = epochs_of(trainer_of({"scheduler": RoundRobin()}))
    assert epoch == [("sst",), ("quora",), ("sts",)] * 804


@pytest.mark.parametrize(("stop", "rounds"), [("longest", 804), ("shortest", 188)])
@pytest.mark.parametrize("per_step", [1, 2, 3])
def test_round_robin_ends_with_the_longest_or_the_shortest_task_however_many_share_a_step(
    stop: Any, rounds: int, per_step: int
) -> None:
    trainer = trainer_of({"scheduler": RoundRobin(stop, per_step)}, epochs=2)
    for epoch in epochs_of(trainer):
        assert len(epoch) == 3 * rounds / per_step
        assert counts(epoch) == (rounds, rounds, rounds)
        assert all(len(set(step)) == per_step for step in epoch)


def test_where_the_turns_do_not_come_out_even_the_last_step_is_filled_and_the_next_epoch_goes_on_from_there() -> None:
    tasks = [large("a", 64), large("b", 96), large("c", 64)]  # 3 rounds of 3 are 9 turns, 5 steps of 2
    first, second = epochs_of(trainer_of({"scheduler": RoundRobin(per_step=2)}, tasks=tasks, epochs=2))
    assert first == [("a", "b"), ("c", "a"), ("b", "c"), ("a", "b"), ("c", "a")]
    assert second == [("b", "c"), ("a", "b"), ("c", "a"), ("b", "c"), ("a", "b")]


def test_several_tasks_a_step_are_each_trained_on_a_batch_of_their_own() -> None:
    log, probe = Log(), Probe()
    trainer_of({"rrobin": RoundRobin(per_step=3), "probe": probe}, tasks=small(), observers=[log]).train()
    assert log.steps == [["sst", "quora", "sts"]] * 5
    for name, batches, size in [("sst", 5, 24), ("quora", 3, 13), ("sts", 2, 8)]:
        seen = [rows for _, rows in sorted(probe.rows[name].items())]
        assert len(seen) == 5
        assert sorted(itertools.chain.from_iterable(seen[:batches])) == list(range(size))


def test_more_tasks_a_step_than_there_are_is_refused() -> None:
    trainer = trainer_of({"rrobin": RoundRobin(per_step=4)})
    ((stage, tasks),) = stages_of(trainer)
    with pytest.raises(PluginError) as refused:
        first_epoch(trainer, stage, tasks)
    assert str(refused.value) == "'rrobin' has per_step=4, but the stage has 3 tasks."
    for wrong in ({"per_step": 0}, {"per_step": "1.5"}, {"stop": "short"}):
        with pytest.raises(PluginError, match=r"^'rrobin': "):
            catalog.make("rrobin", wrong)
