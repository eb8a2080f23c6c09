"""The schedulers: whose turn it is, over an epoch counted by hand, and the same in every process and after every stop.

The large tasks are those of the course: 8,500, 25,700 and 6,000 examples, which batches of 32 are 266, 804 and 188 updates.
"""

import inspect
import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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

from regkit import Examples, MultitaskModel, PluginError, Stage, Streams, Task, hookimpl
from regkit.data.order import Feed
from regkit.hooks import catalog
from regkit.hooks.compose import compose
from regkit.hooks.defaults import Defaults
from regkit.model import Bert
from regkit.tasks.objectives import Binary, Classification, Regression
from regkit.testing import TINY, Probe, Snapshot, same_weights, tiny_task
from regkit.training.loop import Trainer
from regkit.training.passes import Passes
from regkit.training.state import State
from tests.helpers import slow_but, stages_of

Scores = Mapping[str, Mapping[str, float]]
Counts = tuple[int, ...]

BATCHES = (266, 804, 188)
TOTAL = 1258
ALIKE = (420, 419, 419)  # 1258 / 3, the one left over to the first

EACH: dict[str, dict[str, Any]] = {
    "rrobin": {},
    "proportional": {},
    "temperature": {},
    "annealed": {},
    "weighted": {"weights": {"sst": 1, "quora": 2, "sts": 1}},
    "adaptive": {},
    "only": {"task": "quora"},
}
RANDOM = ["proportional", "temperature", "annealed", "weighted", "adaptive"]


def large(name: str, size: int, batch_size: int = 32) -> Task:
    """A task of so many examples of one token each; there is nothing in it to train on."""
    nothing = np.zeros(0, dtype=np.int32)
    return Task(
        name, Regression(0, 5), {"train": Examples(nothing, nothing, np.arange(size + 1), None)}, None, batch_size
    )


def course() -> list[Task]:
    return [large("sst", 8_500), large("quora", 25_700), large("sts", 6_000)]


def small() -> list[Task]:
    """Tasks to train on, of 5, 3 and 2 batches, under the names of the large ones."""
    return [
        tiny_task("sst", Classification(3)),
        tiny_task("quora", Binary(), "cross_encoder", size=13),
        tiny_task("sts", Regression(0, 5), "cross_encoder", size=8),
    ]


def trainer_of(
    *plugins: Mapping[str, Any],
    tasks: Sequence[Task] | None = None,
    epochs: int = 1,
    steps: int | None = None,
    seed: int = 0,
    observers: Sequence[object] = (),
) -> Trainer:
    """As `tiny_trainer`, but over whole epochs."""
    tasks, streams = course() if tasks is None else tasks, Streams(seed)
    with streams.seeded("encoder"):
        model = MultitaskModel(Bert(TINY), tasks, streams, dropout=0.1)
    stage = Stage("finetune", [task.name for task in tasks], epochs, steps, learning_rate=1e-2)
    together = {name: plugin for each in plugins for name, plugin in each.items()}
    composition = compose(together, Defaults(tasks, stage), streams)
    for observer in observers:
        composition.observe(observer)
    return Trainer(
        Passes(model, composition.hook, streams),
        State(model, composition.hook, streams, together, composition.acts),
        tasks,
    )


def epochs_of(trainer: Trainer) -> list[list[tuple[str, ...]]]:
    """By epoch and step, the names of the tasks; the scheduler itself is asked, for a call of a hook takes long."""
    ((stage, tasks),) = stages_of(trainer)
    length, total = trainer.length(stage, tasks)
    (choose,) = (plugin.choose_tasks for plugin in trainer.state.plugins.values() if hasattr(plugin, "choose_tasks"))
    known = {"tasks": tasks, "total_steps": total}
    wanted = inspect.signature(choose).parameters
    named = {name: value for name, value in known.items() if name in wanted}
    steps = [choose(**named, **({"step": step} if "step" in wanted else {})) for step in range(total)]
    names = [tuple(task.name for task in chosen) for chosen in steps]
    return [names[start : start + length] for start in range(0, total, length)]


def counts(epoch: Sequence[Sequence[str]], names: Sequence[str] = ("sst", "quora", "sts")) -> Counts:
    found = Counter(itertools.chain.from_iterable(epoch))
    assert set(found) <= set(names)
    return tuple(found[name] for name in names)


def counted(plugin: Any, **options: Any) -> list[Counts]:
    """How often each of the large tasks comes in each epoch."""
    return [counts(epoch) for epoch in epochs_of(trainer_of({"scheduler": plugin}, **options))]


def made(name: str) -> dict[str, Any]:
    return {name: catalog.make(name, EACH[name])}


# What holds of all of them.


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
    assert trainer.length(stage, tasks) == (sum(expected), sum(expected))
    (epoch,) = epochs_of(trainer)
    assert counts(epoch) == expected
    assert all(len(step) == 1 for step in epoch)


def everybody() -> dict[str, list[list[tuple[str, ...]]]]:
    """Every scheduler's turns over two epochs of tasks a tenth as large."""
    tenth = [large("sst", 850), large("quora", 2_570), large("sts", 600)]
    return {name: epochs_of(trainer_of(made(name), tasks=tenth, epochs=2)) for name in EACH}


def test_another_process_agrees_on_the_task_at_every_step() -> None:
    """Python's hashes, and the random states of torch, NumPy and Python, are others there."""
    code = (
        "import json, random, numpy, torch\n"
        "torch.manual_seed(5), numpy.random.seed(6), random.seed(7)\n"
        "from tests.plugins.test_schedulers import everybody\n"
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
        length, total = trainer.length(stage, tasks)
        with trainer.streams.at(stage.name, step):
            (chosen,) = trainer.hook.choose_tasks(tasks=tasks, step=step, total_steps=total)
        assert (chosen.name,) == expected[step // length][step % length]


@pytest.mark.parametrize("name", RANDOM)
def test_the_order_is_another_in_every_epoch_and_of_every_seed_and_the_same_beside_other_plugins(name: str) -> None:
    one, other = epochs_of(trainer_of(made(name), epochs=2)), epochs_of(trainer_of(made(name), epochs=2, seed=1))
    different = [one[0], one[1], other[0], other[1]]
    assert len({tuple(epoch) for epoch in different}) == 4
    smart, ema = ({each: catalog.make(each, {})} for each in ("smart", "ema"))
    assert epochs_of(trainer_of(smart, made(name), ema, epochs=2)) == one


@pytest.mark.parametrize("name", RANDOM)
def test_the_tasks_are_mixed_all_through_the_epoch(name: str) -> None:
    """Every fortieth part of an epoch, 31 updates, has the largest and another task."""
    (epoch,) = epochs_of(trainer_of(made(name)))
    for start in range(0, TOTAL - 31, 31):
        assert len(set(epoch[start : start + 31])) > 1


class Log:
    """An observer that notes the tasks of every update, and the scores."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []
        self.scores: list[tuple[int, Scores]] = []

    @hookimpl(trylast=True)
    def after_step(self, losses: Mapping[str, Any]) -> None:
        self.steps.append(list(losses))

    @hookimpl(trylast=True)
    def evaluated(self, step: int, scores: Scores) -> None:
        self.scores.append((step, scores))


@pytest.mark.parametrize("name", EACH)
def test_a_run_trains_the_tasks_that_its_plan_foresaw_and_is_scored_at_the_end_of_each_epoch(name: str) -> None:
    log = Log()
    trainer = trainer_of(made(name), tasks=small(), epochs=2, observers=[log])
    ((stage, tasks),) = stages_of(trainer)
    foreseen = trainer.first_epoch(stage, tasks)
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
    whole, log = trainer_of(made(name), tasks=small()), Log()
    short = trainer_of(made(name), tasks=small(), steps=2, observers=[log])
    ((stage, tasks),) = stages_of(short)
    foreseen = short.first_epoch(stage, tasks)
    assert len(foreseen) == 2
    assert [tuple(step) for step in foreseen] == epochs_of(whole)[0][:2]
    short.train()
    assert log.steps == foreseen


@pytest.mark.parametrize("name", EACH)
def test_with_one_task_every_update_is_of_it(name: str) -> None:
    options = {"weights": {"quora": 0.1}} if name == "weighted" else EACH[name]
    log = Log()
    one = [task for task in small() if task.name == "quora"]
    trainer_of({name: catalog.make(name, options)}, tasks=one, epochs=2, observers=[log]).train()
    assert log.steps == [["quora"]] * 6


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


@pytest.mark.parametrize("name", slow_but(EACH, ["rrobin", "adaptive"]))
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


# Round robin


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
        trainer.first_epoch(stage, tasks)
    assert str(refused.value) == "'rrobin' is to take 4 tasks a step; the stage has 3."
    for wrong in ({"per_step": 0}, {"per_step": "1.5"}, {"stop": "short"}):
        with pytest.raises(PluginError, match=r"^'rrobin': "):
            catalog.make("rrobin", wrong)


# Proportional


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


# Temperature


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"T": 1}, BATCHES),  # 1258 * 8500 / 40200 = 265.995, 804.244, 187.761
        ({"T": 2}, (352, 611, 295)),  # roots 92.20, 160.31, 77.46: 351.495, 611.190, 295.315
        ({"T": 5}, (396, 493, 369)),  # 395.549, 493.518, 368.933
        ({"T": 0.5}, (118, 1081, 59)),  # squares: 118.233, 1080.855, 58.912
        ({"T": 0.01}, (0, TOTAL, 0)),  # 25700^100 is no float
        ({"T": 1e6}, (419, 420, 419)),  # a third each, and a trace more for the largest
        ({"T": 1, "cap": 10_000}, (436, 514, 308)),  # of 24,500: 436.449, 513.469, 308.082
        ({"T": 2, "cap": 10_000}, (430, 467, 361)),  # roots 92.20, 100, 77.46: 430.112, 466.522, 361.366
        ({"T": 1, "cap": 32}, ALIKE),
        ({"T": 1, "cap": 25_700}, BATCHES),
    ],
)
def test_temperature_by_hand(options: Mapping[str, Any], expected: Counts) -> None:
    assert counted(catalog.make("temperature", options), epochs=2) == [expected, expected]


def test_a_cap_below_a_batch_is_refused() -> None:
    trainer = trainer_of({"temperature": Temperature(cap=31)})
    ((stage, tasks),) = stages_of(trainer)
    with pytest.raises(PluginError) as refused:
        trainer.first_epoch(stage, tasks)
    assert str(refused.value) == "'temperature' has a cap of 31, below a batch of task 'sst' (32)."


@pytest.mark.parametrize(("option", "value"), [("T", 0), ("T", "-1"), ("T", "inf"), ("T", "nan"), ("cap", 0)])
def test_a_temperature_or_a_cap_of_nothing_is_refused(option: str, value: object) -> None:
    with pytest.raises(PluginError, match=rf"^'temperature': {option}"):
        catalog.make("temperature", {option: value})


# Annealed


@pytest.mark.parametrize(
    ("fall", "epochs", "expected"),
    [
        (0.8, 1, [BATCHES]),  # the first epoch, not the last, and no division by E - 1 = 0
        (0.8, 2, [BATCHES, (396, 493, 369)]),  # n^0.2: 395.549, 493.518, 368.933
        (0.8, 3, [BATCHES, (335, 651, 272), (396, 493, 369)]),  # n^0.6: 335.138, 650.928, 271.934
        (1.0, 2, [BATCHES, ALIKE]),
        (0.0, 2, [BATCHES, BATCHES]),
    ],
)
def test_annealed_by_hand(fall: float, epochs: int, expected: list[Counts]) -> None:
    assert counted(Annealed(fall), epochs=epochs) == expected


def test_the_last_epoch_of_annealing_may_be_a_part_of_one() -> None:
    """Two epochs and a half are three: the exponent of the third is 0.2, whatever there is of it."""
    whole = epochs_of(trainer_of({"scheduler": Annealed()}, epochs=3))
    part = epochs_of(trainer_of({"scheduler": Annealed()}, steps=2 * TOTAL + 629))
    assert part == [whole[0], whole[1], whole[2][:629]]


def test_annealing_never_trains_one_task_only() -> None:
    for epoch in epochs_of(trainer_of({"scheduler": Annealed()}, epochs=6)):
        assert min(counts(epoch)) >= 188


# Weighted


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 2, 1), (315, 629, 314)),  # 314.5, 629, 314.5
        ((0.1, 0.2, 0.1), (315, 629, 314)),
        ((1, 0, 3), (315, 0, 943)),  # 314.5, 0, 943.5
        ((0, 0, 1), (0, 0, TOTAL)),
    ],
)
def test_weighted_by_hand(weights: tuple[float, ...], expected: Counts) -> None:
    named = dict(zip(("sts", "quora", "sst"), reversed(weights), strict=True))  # their order is not that of the tasks
    assert counted(catalog.make("weighted", {"weights": named}), epochs=2) == [expected, expected]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"sst": 1, "quroa": 1}, "'weighted' knows no task 'quroa'. Did you mean 'quora'? Available: quora, sst, sts."),
        ({"sst": 1, "quora": 2}, "'weighted' has no weight for task 'sts'; 0 leaves a task out."),
        ({"sst": 0, "quora": 0, "sts": 0}, "'weighted' has only weights of 0; nothing would be trained."),
    ],
)
def test_weights_that_do_not_fit_the_tasks_are_refused(weights: dict[str, float], said: str) -> None:
    trainer = trainer_of({"weighted": Weighted(weights)})
    ((stage, tasks),) = stages_of(trainer)
    with pytest.raises(PluginError) as refused:
        trainer.first_epoch(stage, tasks)
    assert str(refused.value) == said


def test_a_negative_weight_and_no_weights_are_refused() -> None:
    with pytest.raises(PluginError, match=r"^'weighted': weights.sst is -1; "):
        catalog.make("weighted", {"weights": {"sst": -1}})
    with pytest.raises(PluginError, match=r"^'weighted' needs weights: "):
        catalog.make("weighted", {})


def test_a_task_of_weight_0_is_scored_but_not_trained() -> None:
    log = Log()
    weights = {"sst": 0.0, "quora": 1.0, "sts": 1.0}
    trainer = trainer_of({"weighted": Weighted(weights)}, tasks=small(), observers=[log])
    before = {name: weight.clone() for name, weight in trainer.model.heads["sst"].named_parameters()}
    trainer.train()
    assert "sst" not in itertools.chain.from_iterable(log.steps)
    assert "sst" in log.scores[-1][1]
    for name, weight in trainer.model.heads["sst"].named_parameters():
        assert torch.equal(weight, before[name])


# Adaptive


def oracle(given: Mapping[str, float], past: Sequence[Mapping[str, float]], alpha: float, floor: float) -> Counts:
    """Jean et al.'s explicit schedule over the large tasks, from all the scores that there have been."""
    names, shares = ("sst", "quora", "sts"), []
    for name in names:
        scores = [max(0.0, each[name]) for each in past]
        reference = given[name] if name in given else max(scores)
        reached = 0.0 if scores[-1] == 0 else scores[-1] / reference
        shares.append(1.0 / ((reached if reached < 1 else 1.0) ** alpha + floor))
    exact = [TOTAL * share / sum(shares) for share in shares]
    found = [int(each) for each in exact]
    while sum(found) < TOTAL:
        found[max(range(3), key=lambda number: exact[number] - found[number])] += 1
    return tuple(found)


def tell(trainer: Trainer, step: int, scores: Mapping[str, float]) -> None:
    """The dev splits were scored; what is not the task's own metric counts for nothing."""
    ((stage, tasks),) = stages_of(trainer)
    trainer.length(stage, tasks)  # as every run begins
    told = {task.name: {"loss": 0.5, "spearman": -1.0, task.objective.metric: scores[task.name]} for task in tasks}
    trainer.hook.evaluated(stage=stage, step=step, scores=told)


FALLING = [
    {"sst": 0.4, "quora": 0.7, "sts": 0.2},
    {"sst": 0.5, "quora": 0.6, "sts": -0.3},
    {"sst": 0.1, "quora": 0.8, "sts": 0.3},
]


@pytest.mark.parametrize("given", [{}, {"sst": 0.5}, {"sst": 0.55, "quora": 0.9, "sts": 0.85}])
@pytest.mark.parametrize(("alpha", "floor"), [(5.0, 0.05), (1.0, 0.5)])
def test_adaptive_shares_are_those_of_the_formula(given: dict[str, float], alpha: float, floor: float) -> None:
    trainer = trainer_of({"adaptive": Adaptive(given, alpha, floor)})
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [ALIKE]
    for number in range(3):
        tell(trainer, TOTAL * (number + 1), FALLING[number])
        expected = oracle(given, FALLING[: number + 1], alpha, floor)
        assert [counts(epoch) for epoch in epochs_of(trainer)] == [expected]


def test_adaptive_by_hand() -> None:
    """Half of its reference reached: 1 / (1/32 + 0.05) = 12.308, beside 1 / 1.05 = 0.952 twice; 1089.40, 84.30, 84.30."""
    trainer = trainer_of({"adaptive": Adaptive({"sst": 0.5, "quora": 0.8, "sts": 0.8})})
    tell(trainer, TOTAL, {"sst": 0.25, "quora": 0.8, "sts": 0.9})
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [(1090, 84, 84)]


def test_the_task_furthest_below_its_reference_gets_most_and_the_next_one_more_than_the_last() -> None:
    trainer = trainer_of({"adaptive": Adaptive({"sst": 0.5, "quora": 0.9, "sts": 0.9})})
    tell(trainer, TOTAL, {"sst": 0.49, "quora": 0.75, "sts": 0.5})  # 98 %, 83 % and 56 %
    (epoch,) = epochs_of(trainer)
    sst, quora, sts = counts(epoch)
    assert sts > 420 > sst
    assert sts > quora > sst


def test_a_task_without_a_reference_is_held_to_its_best_so_far() -> None:
    trainer = trainer_of({"adaptive": Adaptive()})
    tell(trainer, TOTAL, {"sst": 0.5, "quora": 0.8, "sts": 0.9})
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [ALIKE]  # each is its own best
    tell(trainer, 2 * TOTAL, {"sst": 0.6, "quora": 0.4, "sts": 0.9})
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [(84, 1090, 84)]
    tell(trainer, 3 * TOTAL, {"sst": 0.3, "quora": 0.8, "sts": 0.95})  # half of 0.6
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [(1090, 84, 84)]


def test_the_scores_before_the_first_update_change_nothing() -> None:
    trainer = trainer_of({"adaptive": Adaptive({"sst": 0.5})})
    before = epochs_of(trainer)
    tell(trainer, 0, {"sst": 0.2, "quora": 0.99, "sts": -0.1})
    assert epochs_of(trainer) == before
    tell(trainer, TOTAL, {"sst": 0.5, "quora": 0.5, "sts": 0.5})
    assert [counts(epoch) for epoch in epochs_of(trainer)] == [ALIKE]  # 0.99 was no best


def test_a_negative_correlation_counts_as_none() -> None:
    """1 / 0.05 = 20 beside 0.952 twice: 54.70, 54.70, 1148.61."""
    for negative in (-0.3, 0.0, -1.0):
        trainer = trainer_of({"adaptive": Adaptive()})
        tell(trainer, TOTAL, {"sst": 0.5, "quora": 0.8, "sts": negative})
        assert [counts(epoch) for epoch in epochs_of(trainer)] == [(55, 55, 1148)]


def test_a_task_that_is_not_scored_keeps_its_share() -> None:
    trainer = trainer_of({"adaptive": Adaptive({"sst": 0.5})})
    ((stage, tasks),) = stages_of(trainer)
    trainer.length(stage, tasks)
    trainer.hook.evaluated(stage=stage, step=TOTAL, scores={"sst": {tasks[0].objective.metric: 0.5}})
    (epoch,) = epochs_of(trainer)
    assert counts(epoch) == (406, 426, 426)  # 0.952, 1 and 1: 405.81, 426.10, 426.10


def test_a_reference_of_an_unknown_task_is_refused() -> None:
    trainer = trainer_of({"adaptive": Adaptive({"qora": 0.5})})
    ((stage, tasks),) = stages_of(trainer)
    with pytest.raises(PluginError) as refused:
        trainer.first_epoch(stage, tasks)
    assert str(refused.value) == "'adaptive' knows no task 'qora'. Did you mean 'quora'? Available: quora, sst, sts."
    for wrong in ({"reference": {"sst": 0}}, {"alpha": 0}, {"floor": 0}):
        with pytest.raises(PluginError, match=r"^'adaptive': .* should be greater than 0\.$"):
            catalog.make("adaptive", wrong)


def test_in_a_run_an_epochs_counts_follow_from_the_scores_before_it() -> None:
    log, adaptive = Log(), Adaptive({"sst": 0.9, "quora": 0.2, "sts": 0.05}, alpha=2.0)
    trainer_of({"adaptive": adaptive}, tasks=small(), epochs=3, observers=[log]).train()
    assert counts(log.steps[:10]) == (4, 3, 3)
    metrics = {task.name: task.objective.metric for task in small()}
    for number in (1, 2):
        step, scores = log.scores[number]
        assert step == 10 * number
        reached = [max(scores[name][metrics[name]], 0.0) / adaptive.reference[name] for name in metrics]
        shares = [1 / (min(1.0, each) ** 2 + 0.05) for each in reached]
        for count, share in zip(counts(log.steps[step : step + 10]), shares, strict=True):
            assert abs(count - 10 * share / sum(shares)) < 1
    assert counts(log.steps[10:20]) != (4, 3, 3)


def test_what_adaptive_knows_travels_in_its_state() -> None:
    trainer, other = (trainer_of({"adaptive": Adaptive({"sst": 0.5})}) for _ in range(2))
    epochs_of(trainer)
    tell(trainer, TOTAL, {"sst": 0.4, "quora": 0.8, "sts": 0.5})
    state = json.loads(json.dumps(trainer.state.plugins["adaptive"].state_dict()))
    other.state.plugins["adaptive"].load_state_dict(state)
    for each in (trainer, other):
        epochs_of(each)
        tell(each, 2 * TOTAL, {"sst": 0.45, "quora": 0.4, "sts": 0.6})
    assert epochs_of(other) == epochs_of(trainer)
    other.state.plugins["adaptive"].load_state_dict(state)
    assert state["best"]["quora"] == 0.8  # the state that was loaded is nobody's to change


# Only


def test_only_trains_the_named_task_and_scores_the_others() -> None:
    log = Log()
    trainer = trainer_of({"only": Only("sts")}, tasks=small(), epochs=2, observers=[log])
    before = {name: weight.clone() for name, weight in trainer.model.heads["sst"].named_parameters()}
    trainer.train()
    assert log.steps == [["sts"]] * 4
    assert list(log.scores[-1][1]) == ["sst", "quora", "sts"]
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.heads["sst"].named_parameters())


@pytest.mark.parametrize(("name", "batches"), [("sst", 266), ("quora", 804), ("sts", 188)])
def test_an_epoch_of_only_is_that_of_its_task(name: str, batches: int) -> None:
    assert epochs_of(trainer_of({"only": Only(name)}, epochs=2)) == [[(name,)] * batches] * 2


def test_only_an_unknown_task_is_refused() -> None:
    trainer = trainer_of({"only": Only("sts2")})
    ((stage, tasks),) = stages_of(trainer)
    with pytest.raises(PluginError) as refused:
        trainer.first_epoch(stage, tasks)
    assert str(refused.value) == "'only' knows no task 'sts2'. Did you mean 'sts'? Available: quora, sst, sts."
    with pytest.raises(PluginError, match=r"^'only' needs task: "):
        catalog.make("only", {})
