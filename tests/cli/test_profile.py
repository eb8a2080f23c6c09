"""`regkit profile`: the parts of an update, what each takes, and a trace."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regkit.base.errors import ConfigError
from regkit.cli import profile as profiling
from regkit.cli.profile import AFTER, INSIDE, LOOP, PARTS, Parts, export, profiled, table
from regkit.hooks.spec import Hooks, hookimpl
from regkit.runs.experiment import Experiment
from regkit.runs.settings import Settings
from tests.helpers import Ran, regkit, write_encoder, write_tasks


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profile")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    return folder


def profile(place: Path, *words: object) -> Ran:
    return regkit("profile", "--data", "data", "--encoder", "encoder", "--updates", 2, *words, cwd=place)


def test_each_part_and_each_plugin_has_a_line_and_the_shares_are_a_whole(place: Path) -> None:
    ran = profile(place, "-p", "smart", "-p", "bregman")
    assert ran.status == 0, ran.err
    shares = dict(re.findall(r"^  (\S.*?)  +\S+ +(\S+)% ", ran.out, flags=re.MULTILINE))
    assert shares.keys() == {*PARTS, "smart", "bregman", "hooks", LOOP}
    assert sum(map(float, shares.values())) == pytest.approx(100, abs=1)
    assert not (place / "runs").exists()


@pytest.mark.slow  # the profiler of torch takes seconds to start
def test_a_trace_is_one_update_with_the_names_of_parts_and_plugins(place: Path, tmp_path: Path) -> None:
    ran = profile(place, "-p", "smart", "--trace", tmp_path / "trace.json")
    assert ran.status == 0, ran.err
    names = {event.get("name") for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]}
    assert names >= {*PARTS, "smart", "hooks"}


def test_a_run_that_is_too_short_is_told_what_is_needed(place: Path) -> None:
    ran = profile(place, "--steps", 4)
    assert ran.status == 2
    assert "stage 'finetune' has 4 updates, and a profile of 2 needs 6; raise its steps" in ran.err
    assert "step 1/" not in ran.out


def test_a_trace_that_cannot_be_written_is_refused_before_anything_is_trained(place: Path) -> None:
    ran = profile(place, "--trace", "nowhere/trace.json")
    assert ran.status == 2
    assert ran.err == "regkit: nowhere/trace.json cannot be written: --trace takes a file in a folder that is there.\n"
    assert not ran.out


@pytest.mark.parametrize("name", ["/dev/null", "."])
def test_a_trace_replaces_nothing_but_a_file(place: Path, name: str) -> None:
    ran = profile(place, "--trace", name)
    assert ran.status == 2
    assert "cannot be written: --trace takes a file" in ran.err


def test_a_trace_replaces_a_trace_and_no_other_file(place: Path, tmp_path: Path) -> None:
    other, trace = tmp_path / "other.json", tmp_path / "trace.json"
    other.write_text('{"rows": []}')
    ran = profile(place, "--trace", other)
    assert (ran.status, other.read_text()) == (2, '{"rows": []}')
    assert ran.err == f"regkit: {other} exists, and is no trace; name another --trace.\n"
    for _ in range(2):
        assert profile(place, "--trace", trace).status == 0


def test_a_trace_that_torch_could_not_write_whole_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    class Cut:
        def export_chrome_trace(self, path: str) -> None:
            Path(path).write_text('{"traceEvents": [')

    with pytest.raises(ConfigError, match="there is no room for it"):
        export(Cut(), tmp_path / "trace.json")
    assert not list(tmp_path.iterdir())


def experiment(place: Path, **more: object) -> Experiment:
    return Experiment.build(Settings(data=place / "data", encoder=str(place / "encoder"), **more))


class Fails:
    """Raises in one of the updates, on its first try."""

    def __init__(self, step: int, error: BaseException) -> None:
        self.step, self.error = step, error

    @hookimpl
    def extra_losses(self) -> dict[str, Tensor]:
        self.step -= 1
        if self.step == -1:
            raise self.error
        return {}


@pytest.mark.parametrize(("step", "measure"), [(4, "Live"), (5, "torch_profile")])
def test_an_update_that_runs_out_of_memory_is_measured_when_it_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, step: int, measure: str
) -> None:
    at_work: list[object] = []

    class Alone(getattr(profiling, measure)):  # type: ignore[misc]
        def __enter__(self) -> Any:
            assert not at_work  # a second profiler of torch ends the process
            at_work.append(self)
            return super().__enter__()

        def __exit__(self, *error: object) -> Any:
            at_work.remove(self)
            return super().__exit__(*error)

    monkeypatch.setattr(profiling, measure, Alone)
    made = experiment(place, batch_size=2)
    made.composition.observe(Fails(step, MemoryError()))
    profiled(made, 1, place / "again.json")
    assert json.loads((place / "again.json").read_text())["traceEvents"]
    assert not at_work


def test_an_update_that_fails_leaves_the_trace_that_was_there(place: Path) -> None:
    trace, made = place / "before.json", experiment(place)
    trace.write_text('{"schemaVersion": 1}')
    made.composition.observe(Fails(5, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        profiled(made, 1, trace)
    assert trace.read_text() == '{"schemaVersion": 1}'


def test_a_profile_leaves_plugins_and_modules_as_they_were(place: Path) -> None:
    made = experiment(place, plugins={"bregman": {}})
    before = made.composition.stopwatch
    profiled(made, 1)
    assert all(each.stopwatch is before for each in made.composition.attached.values())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.model.modules())


def test_a_profiled_update_is_the_one_that_would_have_been_made(place: Path) -> None:
    """The weights after a profile are those of a run of as many updates."""
    made, plain = (experiment(place, plugins={"smart": {}, "bregman": {}}, steps=7) for _ in range(2))
    profiled(made, 3)
    plain.trainer.state.position.evaluated = 0
    plain.trainer.train()
    assert made.trainer.state.position.step == plain.trainer.state.position.step == 7
    found, wanted = made.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_what_a_plugin_runs_in_the_model_is_the_plugins(place: Path) -> None:
    parts = Parts(experiment(place).composition, torch.device("cpu"), 1, None)
    parts.enter("hooks")
    with parts.on("smart"):
        parts.enter("attention")
        assert parts.owners == ["hooks", "smart"]
    assert parts.owners == ["hooks"]


def test_memory_is_charged_to_the_part_that_makes_the_tensors(place: Path) -> None:
    parts = Parts(experiment(place).composition, torch.device("cpu"), 1, None)
    parts.done = parts.timed.stop
    parts._begin()
    parts.enter("backward")
    kept = torch.ones(1000)
    parts.enter("clip")
    del kept
    parts.enter("optimizer")
    parts._end()
    assert parts.peaks["backward"] == 4000
    assert parts.peaks["optimizer"] == 0


def test_the_parts_are_between_hooks_that_there_are() -> None:
    assert {*AFTER, *INSIDE} <= set(vars(Hooks))
    assert {*AFTER.values(), *INSIDE.values(), "attention", "feed-forward"} == set(PARTS)


def test_lines_are_in_the_order_of_an_update() -> None:
    lines = table({LOOP: 1.0, "smart": 2.0, "optimizer": 3.0, "data": 4.0}, {"data": 2_000_000}, 2)
    assert lines[0] == "an update takes 5000 ms, the mean of 2:"
    assert [line.split("  ")[1] for line in lines[2:-1]] == ["data", "optimizer", "smart", LOOP]
    assert lines[2].endswith(" 40.0%            2.0 MB")
