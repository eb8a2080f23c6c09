"""The estimate: what an update takes, told from smaller ones, and nothing is changed by finding out."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from regkit import Experiment
from regkit.base.errors import ConfigError
from regkit.hooks import catalog
from regkit.model.modes import mode
from regkit.runs.settings import Settings, size_in_bytes
from regkit.tasks.task import Task
from regkit.testing import exactly, same_weights, tiny_run, tiny_tasks, tiny_trainer
from regkit.training import estimate
from regkit.training.effects import Meter
from regkit.training.estimate import (
    FRAGMENTED,
    HEAP,
    Live,
    TrialUpdate,
    leaving_no_trace,
    state_bytes,
    try_update,
)
from regkit.training.loop import Trainer
from regkit.training.stages import make_optimizer, prepare
from tests.helpers import compute, regkit, slow_but, stages_of
from tests.runs.test_resume import SURGERY, go, log, same_run, settings
from tests.testing.test_promises import acting, crowds, factory, tasks_for

MUCH = 2**40


@dataclass(slots=True)
class Counting:
    """Holds what it has seen in slots."""

    seen: list[int] = field(default_factory=list)
    more: int = field(init=False)


@pytest.fixture(autouse=True)
def _nothing_is_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests' own process takes has nothing to do with it."""
    monkeypatch.setattr(estimate, "memory_in_use", lambda device: 0)


# Counting


def test_tensors_are_counted_while_they_are_alive() -> None:
    old = torch.zeros(100)
    with Live() as live:
        one = torch.zeros(1000)
        two = one * 2
        three = one.view(10, 100)[2:].add_(1)
        old += 1
        four = old[:10]
        del one
        assert live.now == 16000  # a view holds it
        del three
        assert live.now == 8000
        del two
        five = torch.stack([four, four])
        large = torch.empty(2**23)  # none of the heap's
        both = torch.sort(four)
    assert live.now == 2 * (five.nbytes + sum(part.nbytes for part in both)) + large.nbytes
    assert live.history == [0, 8000, 16000, 160, 160 + 2**25, 240 + 2**25, 400 + 2**25]


def test_what_a_plugin_has_in_slots_is_put_back() -> None:
    plugin = Counting([1])
    with leaving_no_trace(tiny_trainer({}).passes, {"counting": plugin}):
        plugin.seen.append(2)
        plugin.more = 3
    assert plugin.seen == [1]
    assert not hasattr(plugin, "more")


def test_the_tensors_of_a_backward_pass_are_counted() -> None:
    weight = torch.zeros(1000, requires_grad=True)
    with Live() as live:
        torch.autograd.backward(weight.square().sum())
    assert live.now == 8000  # its gradient
    assert max(live.history) >= 16000


def prepared(
    names: Sequence[str], tasks: Callable[[], Sequence[Task]], meter: bool = False
) -> tuple[Trainer, Any, Any]:
    """A trainer at the start of its stage, with an optimizer and the tasks of the stage."""
    trainer = tiny_trainer(factory(*names)(), tasks=tasks(), dropout=0.1)
    stage, together = stages_of(trainer)[-1]
    prepare(trainer.hook, trainer.model, stage, together)
    return trainer, make_optimizer(trainer.hook, trainer.model, stage), together


PEAKS = ["smart", "bregman", "freelb", "rdrop sam", "mixout ema neftune"]


@pytest.mark.parametrize("names", slow_but(PEAKS, ["bregman"]))
def test_the_peak_of_a_large_update_is_told_from_two_small_ones(names: str) -> None:
    trainer, optimizer, tasks = prepared(names.split(), tasks_for(*names.split()))
    for task in tasks[::2]:  # a text, a pair in one, and texts apart
        with trainer.streams.at("finetune"):
            try_update(
                trainer.passes, optimizer, [task], 1
            )  # what a plugin keeps is there afterwards, as in an estimate
            two, four, many = (try_update(trainer.passes, optimizer, [task], examples) for examples in (2, 4, 23))
        most = max(many.history)
        found = two.fits(four, most)
        assert found == pytest.approx(many.tokens, rel=0.03)


def test_what_is_tried_takes_as_much_as_an_update_in_many_micro_batches() -> None:
    """Gradients of the first are there while the others are at work."""
    trainer, optimizer, tasks = prepared(["smart"], tasks_for("smart"))
    examples = tasks[0].splits["train"]
    row, shortest = int(examples.lengths().argmax()), int(examples.lengths().argmin())
    batch = examples.batch([row, shortest], keys=[1, 2])
    with trainer.streams.at("finetune"):
        two = try_update(trainer.passes, optimizer, tasks[:1], 2)
        with Live() as live, mode(trainer.model, training=True):
            compute(trainer, optimizer, [(tasks[0], [batch] * 5)])
    assert two.most == pytest.approx(max(live.history), rel=0.001)


def test_the_moment_of_the_most_memory_may_be_another_where_there_are_more_examples() -> None:
    two, four = TrialUpdate(20, [0, 100, 20]), TrialUpdate(40, [0, 100, 40])
    assert two.fits(four, 200) == 200
    assert two.fits(TrialUpdate(40, [0, 100, 40, 40]), 200) == 20 + 20 * 2  # from 0 to the peak


@pytest.mark.parametrize(
    "make",
    [
        lambda weights: torch.optim.AdamW(weights, fused=True),
        lambda weights: torch.optim.SGD(weights, lr=0.1),
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
        lambda weights: torch.optim.Adam([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:]}], amsgrad=True),
    ],
    ids=["adamw", "sgd", "momentum", "amsgrad"],
)
def test_an_optimizers_state_is_told_before_it_is_made(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    weights = [torch.nn.Parameter(torch.ones(30, 10)), torch.nn.Parameter(torch.ones(10))]
    optimizer = make(weights)
    told = state_bytes(optimizer, fragmented=1)
    assert not optimizer.state
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    values = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    assert told == sum(value.numel() * value.element_size() for value in values if value.numel() > 1)


def test_an_optimizer_that_cannot_be_copied_is_taken_for_one_that_keeps_two_numbers_a_weight() -> None:
    class Odd(torch.optim.SGD):
        def __init__(self, weights: Any, more: int) -> None:
            super().__init__(weights, lr=0.1)

    odd = Odd([torch.nn.Parameter(torch.ones(30))], 1)
    assert (state_bytes(odd, fragmented=1), state_bytes(odd, fragmented=3)) == (240, 720)


def test_small_parts_of_an_optimizers_state_leave_holes_as_tensors_of_a_step_do() -> None:
    small, large = (torch.nn.Parameter(torch.empty(size)) for size in (1000, HEAP // 4))
    assert state_bytes(torch.optim.AdamW([small, large], fused=True)) == 2 * (FRAGMENTED * small.nbytes + large.nbytes)


# The size that is found


def found(trainer: Trainer, memory: int, meter: bool = False) -> int:
    trainer.fit.memory = memory
    stage, tasks = stages_of(trainer)[-1]
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, tasks)
        trainer.state.optimizer = make_optimizer(trainer.hook, trainer.model, stage)
        return trainer.fit.estimate(trainer.state, trainer.passes, tasks, trainer.processes)


@pytest.mark.slow
@pytest.mark.parametrize("plugins", [{"smart": {}}, {"rrobin": {"per_step": 3}, "pcgrad": {}}], ids=", ".join)
def test_more_memory_never_gives_smaller_micro_batches(plugins: dict[str, dict[str, Any]]) -> None:
    sizes, refused = [], 0
    for memory in (100_000, 500_000, 600_000, 4_000_000):
        made = {name: catalog.make(name, options) for name, options in plugins.items()}
        trainer = tiny_trainer(made, tasks=tiny_tasks()[::2])
        try:
            sizes.append(found(trainer, memory))
        except ConfigError:
            refused += 1
            assert not sizes
    assert refused
    assert sizes == sorted(sizes)
    assert sizes[0] < 70
    assert sizes[-1] > 4 * sizes[0]


@pytest.mark.slow
def test_more_plugins_never_give_larger_micro_batches() -> None:
    tasks = tiny_tasks()[::2]
    chosen: list[list[str]] = [[], ["smart"], ["smart", "freelb"]]
    sizes = [found(tiny_trainer(factory(*names)(), tasks=tasks), 1_500_000) for names in chosen]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


def test_an_update_that_is_measured_is_what_is_tried() -> None:
    most: list[list[int]] = []
    for every in (0, 16):
        trainer, composition = tiny_trainer_and_composition({"smart": catalog.make("smart", {})})
        composition.observe(Meter(trainer.state, composition, every))
        stage, tasks = stages_of(trainer)[-1]
        with trainer.streams.at(stage.name):
            prepare(trainer.hook, trainer.model, stage, tasks)
            optimizer = make_optimizer(trainer.hook, trainer.model, stage)
            most.append([try_update(trainer.passes, optimizer, tasks[:1], examples).most for examples in (1, 2, 4)])
    assert all(one < other for one, other in zip(*most, strict=True))


def tiny_trainer_and_composition(plugins: dict[str, Any]) -> tuple[Trainer, Any]:
    return tiny_run(plugins, None)


CROWDS = crowds(acting())


@pytest.mark.slow
@pytest.mark.parametrize("names", CROWDS, ids="-".join)
def test_the_estimate_leaves_no_trace(names: tuple[str, ...]) -> None:
    """Weights, gradients, modes, random states, and a plugin's own state are as before; and so is the run that follows."""
    made = factory(*names)()
    trainer = tiny_trainer(made, tasks=tasks_for(*names)(), steps=3)
    stage, tasks = stages_of(trainer)[-1]
    trainer.fit.memory = MUCH
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, tasks)
        trainer.state.optimizer = make_optimizer(trainer.hook, trainer.model, stage)
        held = {key: repr(vars(plugin)) for key, plugin in made.items()}
        before = exactly(trainer.state.capture() | {"model": trainer.model.state_dict()})
        state, modes = torch.get_rng_state(), [module.training for module in trainer.model.modules()]
        some = tasks[1::2]  # a pair in one text, and texts apart
        found = trainer.fit.estimate(trainer.state, trainer.passes, some, trainer.processes)
        assert found == trainer.fit.micro_batch_tokens
        assert torch.equal(torch.get_rng_state(), state)
        assert [module.training for module in trainer.model.modules()] == modes
        assert exactly(trainer.state.capture() | {"model": trainer.model.state_dict()}) == before
        assert {key: repr(vars(plugin)) for key, plugin in made.items()} == held
    assert not any(parameter.grad is not None for parameter in trainer.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixout", "gradvac", "sam"])
def test_a_run_with_enough_memory_is_the_run_without_a_bound(name: str) -> None:
    def run(memory: int | None) -> Trainer:
        trainer = tiny_trainer(factory("rrobin", name)() if name in SURGERY else factory(name)(), steps=4)
        trainer.fit.memory = memory
        trainer.train()
        return trainer

    bounded = run(MUCH)
    same_weights(bounded, run(None))
    assert bounded.state.position.micro_batch_tokens == bounded.fit.micro_batch_tokens


# Whole runs


def words(place: Path) -> tuple[object, ...]:
    return ("--data", place / "data", "--encoder", place / "encoder", "--batch-size", 8, "--steps", 4)


@pytest.mark.slow
def test_a_bounded_run_says_and_keeps_its_size_and_the_plan_says_it_beforehand(place: Path, tmp_path: Path) -> None:
    named = (*words(place), "--tasks", "mood", "-p", "smart", "--memory", "2MB")
    planned = regkit("train", *named, "--dry-run", cwd=tmp_path)
    assert planned.status == 0, planned.err
    (size,) = re.findall(r"^micro-batches of finetune: at most (\d+) tokens, to stay within 2 MB$", planned.out, re.M)
    ran = regkit("train", *named, "--output", "run", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert f"from step 1 on, micro-batches have at most {size} tokens, to fit in memory" in ran.out.splitlines()
    (record,) = [record for record in log(tmp_path / "run") if "micro_batch_tokens" in record]
    assert record["micro_batch_tokens"] == int(size) < 16384
    assert Settings.read(tmp_path / "run" / "config.toml").memory == 2_000_000
    assert json.loads((tmp_path / "run" / "last" / "manifest.json").read_text())["position"][
        "micro_batch_tokens"
    ] == int(size)


@pytest.mark.slow
def test_a_bounded_run_resumes_exactly_on_a_machine_where_more_is_taken(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(place, {"smart": {}, "bregman": {}}, memory="2MB", tasks=["mood", "near"])
    assert go(tmp_path / "whole", wanted)
    assert not go(tmp_path / "stopped", wanted, stop=5)
    monkeypatch.setattr(estimate, "memory_in_use", lambda device: 500_000)
    assert go(tmp_path / "stopped", wanted)
    same_run(tmp_path / "whole", tmp_path / "stopped")


def test_too_little_memory_is_refused_with_what_is_needed(place: Path, tmp_path: Path) -> None:
    for more in ((), ("--dry-run",)):
        ran = regkit("train", *words(place), "--memory", "100kB", *more, cwd=tmp_path)
        assert ran.status == 2
        assert ran.err.count("\n") == 1
        assert re.search(
            r"memory = 0 MB is too little: .* take \d+ MB, and an update with one example of \d+ tok", ran.err
        )
        (needed,) = re.findall(r"Allow (\d+) MB", ran.err)
        assert not list(tmp_path.iterdir())
    assert regkit("train", *words(place), "--memory", f"{needed}MB", "--dry-run", cwd=tmp_path).status == 0


@pytest.mark.slow
def test_what_the_process_takes_is_counted_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    before = estimate.memory_in_use(torch.device("cpu"))
    held = torch.ones(20_000_000)
    assert estimate.memory_in_use(torch.device("cpu")) - before == pytest.approx(80_000_000, rel=0.1)
    del held
    experiment = Experiment.build(settings(place, {}, memory="50MB"))
    with pytest.raises(ConfigError, match="memory = 50 MB is too little"):
        experiment.trainer.train()


# The option


@pytest.mark.parametrize(
    ("given", "size"),
    [("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("300MB", 3 * 10**8), ("12kB", 12_000), ("7", 7), (123456, 123456)],
)
def test_sizes_are_bytes_or_have_a_unit(given: object, size: int) -> None:
    assert size_in_bytes(given) == size


@pytest.mark.parametrize("given", ["", "2gb", "2 G", "GB", "-1GB", "1e9", "1.5", "two", "0", "2GB 3", "inf"])
def test_other_sizes_are_refused_in_a_sentence(given: str, place: Path, tmp_path: Path) -> None:
    ran = regkit("train", *words(place), "--memory", given, cwd=tmp_path)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert ran.err.startswith(f"regkit: --memory is {given!r}; ")
    assert ("such as 2GB" in ran.err) or given == "0"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", ["true", "2.5", "inf", "[1]"])
def test_other_kinds_of_values_are_refused_in_a_file(given: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(f"memory = {given}\n")
    ran = regkit("train", "c.toml", cwd=tmp_path)
    assert ran.status == 2
    assert "c.toml: memory is" in ran.err
