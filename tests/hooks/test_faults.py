"""Faults: the mistakes that writers of plugins make, each refused or said with plugin, hook and remedy."""

import io
import json
import os
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from regkit_plugins.bregman import Bregman
from regkit_plugins.rdrop import RDrop
from regkit_plugins.sam import SAM

from regkit.base.errors import PluginError
from regkit.cli.terminal import Terminal
from regkit.hooks.compose import Composition
from regkit.hooks.spec import hookimpl
from regkit.hooks.watch import FIRST, Watch
from regkit.runs import checkpoint
from regkit.testing import tiny_task, tiny_tasks, tiny_trainer
from regkit.testing.observers import same_weights
from regkit.testing.tiny import tiny_run
from regkit.training.loop import Trainer
from tests.faults import FAULTS
from tests.faults.plugins import Terms, doing
from tests.faults.right import ProjectionTrained
from tests.helpers import regkit, with_stranger


def run(made: object, **options: Any) -> tuple[Trainer, Composition]:
    """Train the first steps with a plugin `a`, and try what a checkpoint would hold."""
    trainer, composition = tiny_run({"a": made}, tiny_tasks()[:2], steps=FIRST, **options)
    trainer.train()
    checkpoint.moment(trainer.state)
    return trainer, composition


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.refused])
def test_a_fault_that_makes_numbers_wrong_is_refused_with_plugin_hook_and_remedy(name: str) -> None:
    with pytest.raises(PluginError) as caught:
        run(FAULTS[name].plugin())
    assert FAULTS[name].run in str(caught.value)
    assert "'a'" in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.run and not fault.refused])
def test_a_fault_that_shows_elsewhere_is_said_once(name: str) -> None:
    (sentence,) = run(FAULTS[name].plugin())[1].watch.said
    assert sentence.startswith(f"plugin 'a': {FAULTS[name].run}")
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (
            lambda: os.chdir("/"),
            "leaves the working directory changed, from which others find their files; put it back.",
        ),
        (
            lambda: sys.stdout.close(),
            "closes sys.stdout, to which others print; leave it open, or write to a file of i",
        ),
    ],
)
def test_what_a_hook_does_to_the_whole_program_is_refused(
    action: Callable[[], object], says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # and back
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(PluginError, match=f"^plugin 'a': after_step {says}"):
        run(doing(lambda model: action(), "after_step")())


def test_a_hook_that_closes_the_file_below_a_stream_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stream = os.fdopen(os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY), "w", closefd=False)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(PluginError, match=r"^plugin 'a': after_step closes sys\.stdout"):
        run(doing(lambda model: os.close(stream.fileno()), "after_step")())


def test_nothing_is_raised_where_a_hook_has_closed_what_is_printed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", closed)
    terminal = Terminal()
    terminal.print("heard")
    closed.close()
    terminal.print("unheard")


class Away(BaseException):
    """What an author may derive from none of Python's errors."""


@pytest.mark.parametrize("raised", [Away("gone"), GeneratorExit("gone"), SystemExit("gone")])
def test_whatever_a_hook_raises_names_the_plugin(raised: BaseException) -> None:
    @dataclass
    class Leaving:
        @hookimpl
        def after_step(self) -> None:
            raise raised

    with pytest.raises(PluginError, match=f"plugin 'a' failed in after_step at .*{type(raised).__name__}: gone"):
        run(Leaving())


def test_an_interruption_in_a_hook_is_none_of_the_plugins() -> None:
    @dataclass
    class Interrupted:
        @hookimpl
        def after_step(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted())


@dataclass
class Flattering:
    """Changes scores in place, long after the first steps."""

    @hookimpl
    def evaluated(self, step: int, scores: Mapping[str, dict[str, float]]) -> None:
        for each in scores.values():
            each.update(dict.fromkeys(each, 0.999) if step > FIRST else {})


@pytest.mark.parametrize("every", [0, 100])
def test_scores_are_watched_at_each_evaluation(every: int) -> None:
    trainer, composition = tiny_run({"a": Flattering()}, tiny_tasks()[:2], steps=FIRST + 4)
    composition.watch.every = every
    with pytest.raises(PluginError, match="plugin 'a': evaluated changes `scores` in place"):
        trainer.train()


def test_gradients_that_are_thrown_away_between_micro_batches_are_noticed() -> None:
    with pytest.raises(PluginError, match=r"plugin 'a': extra_losses changes the gradient of .*zero_grad\(\)"):
        run(doing(lambda model: model.zero_grad())(), micro_batch_tokens=20)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (
            FAULTS["old graph"].plugin,
            "a hook of 'a' or 'b' calls backward(), or keeps a tensor of an earlier step without detach().",
        ),
        (FAULTS["weight in place"].plugin, "a hook of 'a' or 'b' changes in place what the pass still needs."),
    ],
    ids=["an old graph", "in place"],
)
def test_a_graph_that_a_hook_has_spoilt_is_said_without_watching(
    made: Callable[[], object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "on", False)
    with pytest.raises(PluginError) as caught:
        tiny_trainer({"a": made(), "b": SAM()}, tasks=[tiny_task("t", tiny_tasks()[0].objective)], steps=2).train()
    assert str(caught.value) == f"the loss of task 't' has no gradient any more: {says}"


def test_one_draw_of_somebody_else_is_no_fault() -> None:
    """As of a tracker's thread, which draws while a hook runs."""

    class Unlucky:
        drawn = False

        @hookimpl
        def extra_losses(self) -> Terms:
            if not self.drawn:
                self.drawn = bool(random.random() + 1)
            return {}

    assert run(Unlucky())[1].watch.said == []


@pytest.mark.parametrize("closely", [False, True])
@pytest.mark.parametrize("kind", [RDrop, Bregman])
def test_passes_inside_a_hook_draw_nothing_of_the_plugins_own(kind: type, closely: bool) -> None:
    trainer, composition = tiny_run({"a": kind()}, tiny_tasks()[:1], steps=2)
    composition.watch.closely = closely
    trainer.train()
    assert composition.watch.said == []


def test_a_module_that_a_plugin_trains_by_an_optimizer_of_its_own_is_no_fault() -> None:
    assert run(ProjectionTrained())[1].watch.said == []


@pytest.mark.parametrize("every", [0, 1, 4])
def test_after_the_first_steps_one_in_so_many_is_watched(every: int) -> None:
    trainer, composition = tiny_run({}, tiny_tasks()[:1])
    composition.watch.every = every
    watched = []
    for step in range(12):
        with trainer.streams.at("finetune", step, "classes", 0):
            watched += [step] if composition.watch.on else []
    assert watched == {0: [0, 1, 2], 1: [*range(12)], 4: [0, 1, 2, 6, 10]}[every]


def test_watching_changes_no_bit_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, draws of the plugins' own, a teacher, and weights that move and come back."""
    trainers = []
    for on in (True, False):
        monkeypatch.setattr(Watch, "on", on)
        made = {"sam": SAM(), "rdrop": RDrop(), "bregman": Bregman(), "x": FAULTS["torch.rand"].plugin()}
        trainer, composition = tiny_run(made, tiny_tasks()[:1], steps=2)
        trainer.train()
        assert bool(composition.watch.said) == on
        trainers.append(trainer)
    same_weights(*trainers)


FORGETFUL = """
from dataclasses import dataclass, field
from regkit import hookimpl

@dataclass
class Plugin:
    steps: int = field(init=False, default=0)

    @hookimpl
    def after_step(self):
        self.steps += 1
"""


def test_the_command_says_what_was_noticed_and_notes_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", x=FORGETFUL)
    words = ("--data", place / "data", "--encoder", place / "encoder", "--steps", 4, "--output", tmp_path / "run")
    ran = regkit("train", *words, "-p", "x", cwd=tmp_path)
    said = "plugin 'x': after_step changes `steps`, which no checkpoint keeps"
    warnings = json.loads((tmp_path / "run" / "effects.json").read_text())["warnings"]
    assert ran.status == 0
    assert [each.startswith(said) for each in warnings].count(True) == 1
    assert (ran.out + ran.err).count(f"warning: {said}") == 2  # when it is noticed, and in the summary


@dataclass(slots=True)
class Slotted:
    """A plugin whose attributes stand in slots, and which forgets its state."""

    steps: int = field(default=0, init=False)

    @hookimpl
    def after_step(self) -> None:
        self.steps += 1


def test_a_plugin_with_slots_is_watched_as_any_other() -> None:
    trainer, composition = tiny_run({"x": Slotted()}, tiny_tasks()[:1], steps=2)
    trainer.train()
    assert any("changes `steps`, which no checkpoint keeps" in said for said in composition.watch.said)


class Leaves:
    """Ends the program where its state is asked for."""

    @hookimpl
    def after_step(self) -> None: ...

    def state_dict(self) -> Mapping[str, object]:
        raise SystemExit(0)

    def load_state_dict(self, state: Mapping[str, object]) -> None: ...


def test_a_state_that_ends_the_program_is_the_plugins_failure() -> None:
    trainer = tiny_trainer({"leaves": Leaves()}, steps=1)
    trainer.train()
    with pytest.raises(PluginError, match="plugin 'leaves' failed in state_dict: SystemExit: 0"):
        trainer.state.capture()
