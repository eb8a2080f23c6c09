"""Every scheduler: an epoch counted by hand, the same in every process and after every stop."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from regkit_plugins.adaptive import Adaptive
from regkit_plugins.annealed import Annealed
from regkit_plugins.only import Only
from regkit_plugins.proportional import Proportional
from regkit_plugins.rrobin import RoundRobin
from regkit_plugins.temperature import Temperature
from regkit_plugins.weighted import Weighted

from regkit import hookimpl
from regkit.cli.plan import first_epoch
from regkit.hooks import catalog
from regkit.testing import Snapshot, same_weights
from regkit.training.stages import measure_length
from tests.helpers import slow_but, stages_of
from tests.plugins.turns import (
    ALIKE,
    BATCHES,
    EACH,
    TOTAL,
    Counts,
    Log,
    counts,
    epochs_of,
    everybody,
    large,
    made,
    small,
    tenth,
    trainer_of,
)

RANDOM = ["proportional", "temperature", "annealed", "weighted", "adaptive"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rrobin", (804, 804, 804)),
        ("proportional", BATCHES),
        ("temperature", (352, 611, 295)),
        ("annealed", BATCHES),
        ("weighted", (315, 629, 314)),
        ("adaptive", ALIKE),
        ("only", (0, 804, 0)),
    ],
)
def test_without_options_an_epoch_is_as_counted_by_hand(name: str, expected: Counts) -> None:
    trainer = trainer_of(made(name))
    ((stage, tasks),) = stages_of(trainer)
    assert measure_length(trainer.hook, trainer.streams, stage, tasks) == (sum(expected), sum(expected))
    (epoch,) = epochs_of(trainer)
    assert counts(epoch) == expected
    assert all(len(step) == 1 for step in epoch)


@pytest.mark.slow
def test_another_process_agrees_on_the_task_at_every_step() -> None:
    """Python's hashes, and the random states of torch, NumPy and Python, are others there."""
    code = (
        "import json, random, numpy, torch\n"
        "torch.manual_seed(5), numpy.random.seed(6), random.seed(7)\n"
        "from tests.plugins.turns import everybody\n"
        "print(json.dumps(everybody()))\n"
    )
    here = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": "4321", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == json.loads(json.dumps(everybody()))


@pytest.mark.parametrize("name", EACH)
def test_what_is_drawn_elsewhere_changes_no_turn(name: str) -> None:
    expected = epochs_of(trainer_of(made(name), epochs=2))
    trainer = trainer_of(made(name), epochs=2)
    ((stage, tasks),) = stages_of(trainer)
    for seed, step in enumerate([1257, 0, 1300, 1, 700]):  # a run that is resumed begins in the middle
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        length, total = measure_length(trainer.hook, trainer.streams, stage, tasks)
        with trainer.streams.at(stage.name, step):
            (chosen,) = trainer.hook.choose_tasks(tasks=tasks, step=step, total_steps=total)
        assert (chosen.name,) == expected[step // length][step % length]


@pytest.mark.parametrize("name", RANDOM)
def test_the_order_is_another_in_every_epoch_and_of_every_seed_and_the_same_beside_other_plugins(name: str) -> None:
    one, other = (epochs_of(trainer_of(made(name), tasks=tenth(), epochs=2, seed=seed)) for seed in (0, 1))
    different = [one[0], one[1], other[0], other[1]]
    assert len({tuple(epoch) for epoch in different}) == 4
    smart, ema = ({each: catalog.make(each, {})} for each in ("smart", "ema"))
    assert epochs_of(trainer_of(smart, made(name), ema, tasks=tenth(), epochs=2)) == one


@pytest.mark.parametrize("name", RANDOM)
def test_the_tasks_are_mixed_all_through_the_epoch(name: str) -> None:
    """Every fortieth part of an epoch, 31 updates, has the largest and another task."""
    (epoch,) = epochs_of(trainer_of(made(name)))
    for start in range(0, TOTAL - 31, 31):
        assert len(set(epoch[start : start + 31])) > 1


@pytest.mark.parametrize("name", slow_but(EACH, ["rrobin", "adaptive", "only"]))
def test_a_run_trains_the_tasks_that_its_plan_foresaw_and_is_scored_at_the_end_of_each_epoch(name: str) -> None:
    log = Log()
    trainer = trainer_of(made(name), tasks=small(), epochs=2, observers=[log])
    ((stage, tasks),) = stages_of(trainer)
    foreseen = first_epoch(trainer, stage, tasks)
    torch.manual_seed(99)
    trainer.train()
    length = len(foreseen)
    assert length == {"rrobin": 15, "only": 3}.get(name, 10)
    assert log.steps[:length] == foreseen
    assert len(log.steps) == 2 * length
    assert [step for step, _ in log.scores] == [0, length, 2 * length]
    assert all(list(scores) == ["sst", "quora", "sts"] for _, scores in log.scores)


@pytest.mark.parametrize("name", EACH)
def test_a_stage_shorter_than_an_epoch_is_the_beginning_of_it(name: str) -> None:
    whole, short = trainer_of(made(name), tasks=small()), trainer_of(made(name), tasks=small(), steps=2)
    ((stage, tasks),) = stages_of(short)
    foreseen = first_epoch(short, stage, tasks)
    assert len(foreseen) == 2
    assert [tuple(step) for step in foreseen] == epochs_of(whole)[0][:2] == epochs_of(short)[0]


@pytest.mark.parametrize("name", EACH)
def test_with_one_task_every_update_is_of_it(name: str) -> None:
    options = {"weights": {"quora": 0.1}} if name == "weighted" else EACH[name]
    one = [task for task in small() if task.name == "quora"]
    trainer = trainer_of({name: catalog.make(name, options)}, tasks=one, epochs=2)
    assert epochs_of(trainer) == [[("quora",)] * 3] * 2


def test_the_batch_size_of_each_task_is_honoured() -> None:
    """100 examples each, in batches of 10 and of 40: 10 and 3 updates."""
    tasks = [large("fine", 100, batch_size=10), large("coarse", 100, batch_size=40)]
    names = ("fine", "coarse")
    weights = {"fine": 1.0, "coarse": 12.0}
    for plugin, expected in [
        (RoundRobin("longest"), (10, 10)),
        (RoundRobin("shortest"), (3, 3)),
        (Proportional(), (10, 3)),
        (Temperature(), (7, 6)),  # alike in examples
        (Annealed(), (7, 6)),
        (Weighted(weights), (1, 12)),
        (Adaptive(), (7, 6)),
        (Only("fine"), (10, 0)),
        (Only("coarse"), (0, 3)),
    ]:
        (epoch,) = epochs_of(trainer_of({"scheduler": plugin}, tasks=tasks))
        assert counts(epoch, names) == expected, plugin


class Checkpoint(Snapshot):
    """Keeps the state once the dev splits were scored, as the run's checkpoints do."""

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        pass

    @hookimpl(trylast=True)
    def evaluated(self, step: int) -> None:
        if step == self.after:
            Snapshot.after_step(self, step - 1)


@pytest.mark.parametrize("name", slow_but(EACH, ["adaptive"]))
def test_a_run_of_several_epochs_resumes_bit_for_bit(name: str) -> None:
    """Stopped in the middle of the second epoch, and between the second and the third."""
    length = {"rrobin": 15, "only": 3}.get(name, 10)
    options = {"reference": {"sst": 0.9, "sts": 0.1}} if name == "adaptive" else EACH[name]
    stops, log = [Snapshot(length + length // 2), Checkpoint(2 * length)], Log()
    whole = trainer_of({name: catalog.make(name, options)}, tasks=small(), epochs=3, observers=[*stops, log])
    for stop in stops:
        stop.trainer = whole
    whole.train()
    for stop in stops:
        rest = Log()
        resumed = trainer_of({name: catalog.make(name, options)}, tasks=small(), epochs=3, observers=[rest])
        resumed.model.load_state_dict(stop.model)
        resumed.state.load(stop.training)
        torch.manual_seed(12)
        resumed.train()
        assert rest.steps == log.steps[stop.after :]
        same_weights(resumed, whole)
    assert name != "adaptive" or counts(log.steps[length : 2 * length]) != counts(log.steps[:length])
