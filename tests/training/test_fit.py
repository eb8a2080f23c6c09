"""Where memory runs out, the same step is done again in smaller micro-batches; a budget finds their size beforehand."""

import json
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from regkit import Batch, MultitaskModel, Predict, Task, TaskLoss, hookimpl
from regkit.base.errors import PluginError, RunError
from regkit.base.failures import ran_out
from regkit.base.randomness import Streams
from regkit.data.order import Feed, size
from regkit.data.weights import lengths_in, weigh
from regkit.distributed.processes import Processes
from regkit.hooks import catalog
from regkit.hooks.adamw import AdamW
from regkit.hooks.compose import compose
from regkit.hooks.defaults import Defaults
from regkit.runs.experiment import Experiment
from regkit.runs.settings import Settings
from regkit.tasks.task import FINETUNE, Stage
from regkit.testing import measured, same_weights, tiny_trainer
from regkit.testing.tiny import tiny_run
from regkit.training import suspects
from regkit.training.fit import MOST_ON_CPU, Fit
from regkit.training.loop import Trainer
from tests.helpers import regkit, slow_but, with_stranger
from tests.runs.test_resume import go, log, same_run, settings

LIMIT = 24  # tokens, of batches of up to 70

WHERE = ("forward", "pass", "backward", "recompute", "evaluation")


class Fails(torch.autograd.Function):
    """The identity, whose backward pass does not fit."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")


@dataclass
class Scarce:
    """A machine on which a micro-batch does not fit, somewhere in the step, where `fits` says so."""

    where: str
    fits: Callable[[Batch], bool]
    uphill: bool = field(default=False, init=False)
    failures: int = field(default=0, init=False)

    def need(self, where: str, batch: Batch) -> None:
        if where == self.where and not self.fits(batch):
            self.failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")

    @hookimpl(wrapper=True)
    def embed(self, batch: Batch) -> Generator[None, Tensor, Tensor]:
        self.need("forward", batch)
        if self.uphill:
            self.need("recompute", batch)
        return (yield)

    @hookimpl
    def extra_losses(self, batch: Batch, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        predict(embeddings, dropout="fresh")
        self.need("pass", batch)
        return {}

    @hookimpl(wrapper=True)
    def task_loss(self, batch: Batch) -> Generator[None, Tensor, Tensor]:
        loss = yield
        if self.where != "backward" or self.fits(batch):
            return loss
        self.failures += 1
        return Fails.apply(loss)

    @hookimpl(wrapper=True)
    def before_step(self) -> Generator[None, Any, Any]:
        self.uphill = True
        try:
            return (yield)
        finally:
            self.uphill = False

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Evaluation asks the model itself."""
        embed = MultitaskModel.embed

        def scarce(model: MultitaskModel, batch: Batch) -> Tensor:
            if not model.training:
                self.need("evaluation", batch)
            return embed(model, batch)

        monkeypatch.setattr(MultitaskModel, "embed", scarce)


class Plain:
    """Gradient descent: AdamW would make a step of full length of a gradient that is 0 but for rounding."""

    @hookimpl
    def make_optimizer(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1)


def small(batch: Batch) -> bool:
    return size(batch.example_lengths) <= LIMIT or len(batch) == 1


@pytest.mark.parametrize(
    ("where", "plugins"),
    [
        ("recompute", ("rrobin", "pcgrad")),
        *(pytest.param(where, ("smart", "bregman", "ema"), marks=pytest.mark.slow) for where in ("pass", "evaluation")),
    ],
)
def test_a_step_that_does_not_fit_is_done_again_with_the_same_result(
    where: str, plugins: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the run without want of memory, and against that with small micro-batches from the start; dropout off."""

    def run(scarce: Scarce | None, budget: int) -> Trainer:
        options = {"rrobin": {"per_step": 3}}
        named = {name: catalog.make(name, options.get(name, {})) for name in ("sam", *plugins)}
        named["plain"] = Plain()
        trainer = tiny_trainer(
            named, steps=2, dropout=0.0, micro_batch_tokens=budget, observers=[scarce] if scarce else []
        )
        trainer.train()
        return trainer

    scarce = Scarce(where, small)
    with monkeypatch.context() as patch:
        scarce.watch(patch)
        halved = run(scarce, 10_000)
    assert scarce.failures
    assert halved.state.position.micro_batch_tokens is not None
    assert halved.state.position.micro_batch_tokens <= LIMIT
    for other in (run(None, 10_000), run(None, halved.state.position.micro_batch_tokens)):
        for (name, one), two in zip(halved.model.named_parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, msg=f"{name}: {{}}".format)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "plugin"), list(zip(WHERE[:-1], cycle(["rdrop", "mixout", "neftune"]), strict=False))
)
def test_a_step_that_is_done_again_is_bit_for_bit_that_of_smaller_micro_batches(where: str, plugin: str) -> None:
    """With dropout and every draw on: nothing of the broken-off tries is left."""

    def run(budget: int, observers: Sequence[object]) -> Trainer:
        plugins = {"sam": catalog.make("sam", {}), plugin: catalog.make(plugin, {})}
        return tiny_trainer(plugins, steps=4, micro_batch_tokens=budget, observers=observers)

    scarce = Scarce(where, lambda batch: trainer.fit.tokens <= LIMIT)  # found in the first step, and kept
    trainer = run(10_000, [scarce])
    trainer.train()
    assert scarce.failures > 1
    assert trainer.state.position.micro_batch_tokens is not None
    other = run(trainer.state.position.micro_batch_tokens, [Scarce("nowhere", small)])
    other.train()
    same_weights(trainer, other)


def test_the_size_is_halved_from_that_of_the_largest_micro_batch() -> None:
    sizes: list[int] = []

    class Notes:
        @hookimpl
        def choose_tasks(self, tasks: Sequence[Task]) -> Sequence[Task]:
            sizes.append(trainer.fit.tokens)
            return tasks[:1]

    scarce = Scarce("forward", lambda batch: trainer.fit.tokens <= 20)
    trainer = tiny_trainer({}, steps=1, observers=[Notes(), scarce])
    task = trainer.tasks[0]
    parts = Feed(task, 0, FINETUNE)
    trainer.train()
    expected = [10_000]
    while expected[-1] > 20:
        expected.append(max(size(part.example_lengths) for part in parts.micro_batches(0, expected[-1])) // 2)
    assert sizes == expected
    assert len(sizes) >= 3


def test_training_and_evaluation_count_squares_and_stay_within_one_bound(place: Path) -> None:
    chosen = Settings(data=place / "data", encoder=str(place / "encoder"), steps=2, micro_batch_tokens=60)
    trainer = Experiment.build(chosen).trainer
    seen: list[tuple[int, Batch]] = []

    def note(model: torch.nn.Module, batch: Batch) -> Tensor:
        seen.append((model.training, batch))
        return embed(model, batch)

    with pytest.MonkeyPatch.context() as patch:
        embed = MultitaskModel.embed
        patch.setattr(MultitaskModel, "embed", note)
        trainer.train()
    counted = {(training, len(batch), size(weigh(lengths_in(batch), trainer.fit.square))) for training, batch in seen}
    assert {training for training, *_ in counted} == {True, False}
    assert all(examples == 1 or tokens <= 60 for _, examples, tokens in counted)
    assert any(tokens > 60 - 30 and examples > 1 for _, examples, tokens in counted)


def test_the_usual_bound_is_smaller_on_a_cpu() -> None:
    model = tiny_trainer({}).model
    assert Fit.on(model).micro_batch_tokens == MOST_ON_CPU < Fit().micro_batch_tokens
    assert Fit.on(model, bucketing=False).micro_batch_tokens == 2 * MOST_ON_CPU
    assert Fit.on(model, 77).micro_batch_tokens == 77
    assert Fit.on(model).square > 0


def test_a_stage_begins_with_the_size_of_the_settings() -> None:
    seen: list[tuple[str, int | None]] = []

    class Two:
        @hookimpl
        def stages(self) -> Sequence[Stage]:
            return [Stage("warm", ["classes"], steps=2)]

        @hookimpl(trylast=True)
        def evaluated(self, stage: Stage) -> None:
            seen.append((stage.name, trainer.state.position.micro_batch_tokens))

    scarce = Scarce("forward", lambda batch: trainer.streams.place[0] != "warm" or small(batch))
    trainer = tiny_trainer({"two": Two()}, steps=1, observers=[scarce])
    trainer.train()
    found = dict(seen)
    assert found["warm"] is not None
    assert found[FINETUNE] is None


@dataclass
class Holds:
    """Makes something large, and then there is no room."""

    held: list[weakref.ref[Tensor]] = field(default_factory=list, init=False)
    alive: list[bool] = field(default_factory=list, init=False)

    @hookimpl
    def extra_losses(self, batch: Batch, output: Tensor, task_loss: TaskLoss) -> Mapping[str, Tensor]:
        self.alive.append(any(each() is not None for each in self.held))
        large = output.expand(100, *output.shape).clone()
        if not small(batch):
            self.held.append(weakref.ref(large))
            raise torch.OutOfMemoryError("out of memory")
        return {"held": 0 * large.sum()}


@pytest.mark.slow
def test_what_a_broken_off_step_held_is_free_before_it_is_done_again() -> None:
    holds = Holds()
    tiny_trainer({"holds": holds}, steps=2).train()
    assert holds.held
    assert not any(holds.alive)


def test_gradients_of_a_broken_off_step_are_gone_before_it_is_done_again() -> None:
    """The first micro-batches left theirs in the sum."""
    left: list[bool] = []

    class Last:
        def __init__(self) -> None:
            self.parts = 0

        @hookimpl(wrapper=True)
        def choose_tasks(self) -> Generator[None, Any, Any]:
            self.parts = 0
            return (yield)

        @hookimpl(wrapper=True)
        def embed(self) -> Generator[None, Tensor, Tensor]:
            if not self.parts:
                left.append(any(each.grad is not None for each in trainer.model.parameters()))
            self.parts += 1
            if self.parts == 2 and trainer.fit.tokens > 20:
                raise torch.OutOfMemoryError("out of memory")
            return (yield)

    trainer = tiny_trainer({}, micro_batch_tokens=40, steps=1, observers=[Last()])
    trainer.train()
    assert len(left) > 1
    assert not any(left)


@pytest.mark.slow
def test_a_measured_step_that_is_done_again_is_measured_whole() -> None:
    scarce, plugins = Scarce("backward", small), {"smart": catalog.make("smart", {})}
    _, composition, records = measured(plugins | {"scarce": scarce})
    assert scarce.failures
    assert composition.plugins
    for record in records:
        for terms in record["terms"].values():
            assert all("gradient" in term for term in terms.values())


@pytest.mark.parametrize("where", slow_but(WHERE, ["forward"]))
def test_one_example_that_does_not_fit_ends_the_run_with_a_remedy(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scarce = Scarce(where, lambda batch: max(batch.example_lengths) < 10)
    trainer = tiny_trainer({"sam": catalog.make("sam", {})}, observers=[scarce], steps=40)
    scarce.watch(monkeypatch)
    with pytest.raises(RunError, match=r"^memory ran out after \d+ steps.*one example at a time, .* lower max_length"):
        trainer.train()


@pytest.mark.slow
def test_the_plugin_in_which_memory_ran_out_is_named_and_not_blamed() -> None:
    scarce = Scarce("pass", lambda batch: False)
    with pytest.raises(RunError, match="memory ran out after 0 steps, in extra_losses of plugin 'scarce', with one"):
        tiny_trainer({"scarce": scarce}).train()


@dataclass
class Crowd:
    """Compares the examples of a batch, as contrastive losses do, and notes how many it was given."""

    whole_batches: ClassVar[bool] = True
    seen: list[int] = field(default_factory=list)

    @hookimpl
    def extra_losses(self, output: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        self.seen.append(len(batch))
        return {"crowd": output.float().var(dim=0, correction=0).mean()}


def test_a_plugin_that_needs_whole_batches_gets_them_whatever_the_size_of_micro_batches() -> None:
    crowds = Crowd(), Crowd()
    one, other = (
        tiny_trainer({"crowd": crowd}, steps=6, dropout=0.0, micro_batch_tokens=tokens)
        for crowd, tokens in zip(crowds, (10_000, 8), strict=True)
    )
    one.train()
    other.train()
    assert crowds[0].seen == crowds[1].seen
    assert len(crowds[0].seen) == 6
    same_weights(one, other)


def test_where_the_plugin_does_not_act_batches_are_cut() -> None:
    trainer, _ = tiny_run({"crowd": Crowd()}, None, stages={"crowd": []}, micro_batch_tokens=8)
    trainer.train()
    assert trainer.fit.whole == []
    assert max(each.examples for each in trainer.fit.sizes) < 5


def test_a_whole_batch_that_does_not_fit_ends_the_run_with_the_plugins_name() -> None:
    scarce = Scarce("forward", lambda batch: len(batch) == 1)
    with pytest.raises(RunError) as caught:
        tiny_trainer({"crowd": Crowd()}, observers=[scarce]).train()
    assert str(caught.value) == (
        "memory ran out after 0 steps; batches are not cut, because 'crowd' needs whole ones: "
        "take a smaller batch_size or max_length."
    )


CROWD = """
from dataclasses import dataclass
from typing import ClassVar
from regkit import hookimpl

@dataclass
class Plugin:
    whole_batches: ClassVar[bool] = True

    @hookimpl
    def extra_losses(self, output):
        return {"crowd": output.float().var(dim=0, correction=0).mean()}
"""


@pytest.mark.slow
def test_the_plan_says_that_batches_are_whole_and_a_bound_on_memory_is_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", crowd=CROWD)
    words = ("train", "--data", place / "data", "--encoder", place / "encoder", "--steps", 2, "-p", "crowd")
    said = "  batches are not cut into micro-batches: crowd needs them whole\n"
    for more in (["--dry-run"], ["--output", "run"]):
        bound = regkit(*words, "--memory", "100GB", *more, cwd=tmp_path)
        assert bound.err.startswith("regkit: 'crowd' needs whole batches, and a bound on memory cuts them; leave out")
        ran = regkit(*words, *more, cwd=tmp_path)
        assert (ran.status, ran.err) == (0, "")
        assert said in ran.out
    elsewhere = regkit(*words[:-1], "crowd:stages=[]", "--memory", "100GB", "--dry-run", cwd=tmp_path)
    assert (elsewhere.status, said in elsewhere.out) == (0, False)


def test_several_processes_share_no_whole_batches(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "make", lambda name, options: Crowd())
    chosen = Settings(data=place / "data", encoder=str(place / "encoder"), plugins={"crowd": {}})
    with pytest.raises(
        PluginError, match="'crowd' needs whole batches, and several processes share each; train with one"
    ):
        Experiment.build(chosen, Processes(0, 2))


class Late:
    """No room where the update is done already."""

    def __init__(self, hook: str) -> None:
        self.hook = hook

    def fail(self, hook: str) -> None:
        if hook == self.hook:
            raise torch.OutOfMemoryError("out of memory")

    @hookimpl
    def prepare(self) -> None:
        self.fail("prepare")

    @hookimpl
    def after_step(self) -> None:
        self.fail("after_step")

    @hookimpl
    def evaluated(self, step: int) -> None:
        self.fail("evaluated" if step else "")


@pytest.mark.parametrize("hook", ["prepare", "after_step", "evaluated"])
def test_where_smaller_micro_batches_are_no_remedy_the_run_ends(hook: str) -> None:
    trainer = tiny_trainer({"late": Late(hook)}, steps=2)
    with pytest.raises(RunError, match=rf"in {hook} of plugin 'late', where smaller micro-batches are no remedy; "):
        trainer.train()
    assert trainer.state.position.micro_batch_tokens is None


def test_an_optimizer_that_does_not_fit_ends_the_run_and_no_step_is_done_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, steps = tiny_trainer({}, steps=2), []

    def step(self: AdamW) -> None:
        steps.append(self)
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(AdamW, "step", step)
    with pytest.raises(RunError, match="smaller micro-batches are no remedy"):
        trainer.train()
    assert len(steps) == 1


def test_a_search_for_the_culprit_that_does_not_fit_tells_what_it_can() -> None:
    composition = compose({}, Defaults([], None), Streams(0))
    model = tiny_trainer({}).model

    def recompute() -> None:
        raise torch.OutOfMemoryError("out of memory")

    (suspect,) = suspects.find_suspects(composition, model, recompute)
    assert (suspect.what, suspect.term) == ("gradient", None)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)  # fmt: skip
def test_errors_that_mean_want_of_memory(error: Exception, memory: bool) -> None:
    assert ran_out(error) is memory


# Whole runs


SCARCE = """
from dataclasses import dataclass
import torch
from regkit import hookimpl

@dataclass
class Plugin:
    most: int = 1000
    at: int = 3
    now = 0

    @hookimpl(wrapper=True)
    def choose_tasks(self, step):
        self.now = step
        return (yield)

    @hookimpl
    def extra_losses(self, batch):
        if self.now >= self.at and len(batch) * max(batch.example_lengths) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {}
"""


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", scarce=SCARCE)


@pytest.mark.slow
@pytest.mark.usefixtures("scarce")
def test_a_run_that_found_its_size_resumes_exactly(place: Path, tmp_path: Path) -> None:
    """Dropout is on, so another cut would be seen. It stops before the size is found, and when it is."""
    wanted = settings(place, {"scarce": {"most": 80}, "smart": {}, "bregman": {}})
    assert go(tmp_path / "whole", wanted)
    for more in (1, 8):
        assert not go(tmp_path / "stopped", wanted, stop=more)
    assert go(tmp_path / "stopped", wanted)
    same_run(tmp_path / "whole", tmp_path / "stopped")
    assert [record["step"] for record in log(tmp_path / "whole") if "micro_batch_tokens" in record]


@pytest.mark.usefixtures("scarce")
def test_the_size_is_said_and_logged_once(place: Path, tmp_path: Path) -> None:
    words = ("--data", place / "data", "--encoder", place / "encoder", "--batch-size", 8, "--steps", 9)
    ran = regkit("train", *words, "-p", "scarce:most=200,at=0", "--tasks", "near", "--output", "run", cwd=tmp_path)
    assert ran.status == 0, ran.err
    (record,) = [record for record in log(tmp_path / "run") if "micro_batch_tokens" in record]
    found = record["micro_batch_tokens"]
    said = [line for line in ran.out.splitlines() if "memory" in line]
    assert said == [f"from step 1 on, micro-batches have at most {found} tokens, to fit in memory"]
    position = json.loads((tmp_path / "run" / "last" / "manifest.json").read_text())["position"]
    assert position["micro_batch_tokens"] == found


@pytest.mark.usefixtures("scarce")
def test_a_run_that_does_not_fit_is_saved_and_says_how_to_go_on(place: Path, tmp_path: Path) -> None:
    words = ("--data", place / "data", "--encoder", place / "encoder", "--batch-size", 8, "--steps", 9)
    ran = regkit("train", *words, "-p", "scarce:most=1", "--output", "run", cwd=tmp_path)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert "memory ran out after 3 steps, in extra_losses of plugin 'scarce', with one example at a time" in ran.err
    assert "What was done until step 3 of stage finetune is saved; to go on: regkit train --resume run" in ran.err


@pytest.mark.slow
def test_scoring_a_finished_run_is_done_again_in_smaller_passes(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert go(tmp_path / "run", settings(place, {}, steps=2))
    ran = [regkit("eval", tmp_path / "run", "--json", cwd=tmp_path)]
    embed, most = MultitaskModel.embed, [0]

    def needs(model: MultitaskModel, batch: Batch) -> Tensor:
        tokens = size(batch.example_lengths)
        if tokens > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        most[0] = max(most[0], tokens)
        return embed(model, batch)

    monkeypatch.setattr(MultitaskModel, "embed", needs)
    ran.append(regkit("eval", tmp_path / "run", "--json", cwd=tmp_path))
    assert [each.status for each in ran] == [0, 0], ran[1].err
    assert 10 < most[0] <= 40
    one, other = (json.loads(each.out)["dev"] for each in ran)
    for task, scores in one.items():
        assert other[task]["loss"] == pytest.approx(scores["loss"], rel=1e-4)
