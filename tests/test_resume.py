"""A run that was stopped and resumed is the run that never stopped, bit for bit, whatever plugins it has and wherever it stops."""

import json
import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from regkit import Experiment, Settings, catalog, checkpoint, hookimpl, resume, runs
from regkit.effects import Meter
from regkit.errors import StoppedError
from regkit.interrupts import Interrupts
from regkit.recorder import Recorder
from tests.helpers import PATIENT, install, write_encoder, write_tasks
from tests.test_promises import apart, decides, ours

STEPS = 11  # updates of nine an epoch: scored after 0, 9 and 11

# Options that make a plugin act on the tasks of `tests.helpers`, whose runs are short.
ACTING: dict[str, dict[str, Any]] = {
    "only": {"task": "same"},
    "label_smoothing": {"tasks": ["mood", "same"]},
    "weighted": {"weights": {"mood": 1, "same": 2, "near": 0.5}},
    "fixed_weights": {"weights": {"mood": 2, "near": 0.5}},
    "r4f": {"bound": 0.5},
    "adaptive": {"reference": {"mood": 0.9}},
    "gradvac": {"beta": 0.3},
    "dwa": {"T": 0.1},
}
SURGERY = ["pcgrad", "gradvac", "cagrad", "torchjd", "gradnorm"]
NO_COSINE = {"freeze", "r4f"}  # they refuse a head without weights


@dataclass
class Stop:
    """An observer that asks a run to stop in this step, as a signal would."""

    interrupts: Interrupts
    after: int | None
    done: int = 0

    @hookimpl
    def before_step(self) -> None:
        self.done += 1
        if self.done == self.after:
            self.interrupts.asked = signal.SIGINT


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder` and `data`."""
    folder = tmp_path_factory.mktemp("place")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    return folder


def settings(place: Path, plugins: Mapping[str, Mapping[str, Any]], **more: Any) -> Settings:
    tasks = ["mood", "same"] if NO_COSINE & plugins.keys() else ["mood", "same", "near"]
    values = {"data": place / "data", "encoder": str(place / "encoder"), "tasks": tasks, "batch_size": 8}
    values |= {"steps": STEPS, "learning_rate": 0.01, "measure_every": 2, "plugins": plugins, "device": "cpu"}
    return Settings.checked(values | more, "the test")


def go(folder: Path, wanted: Settings, *, stop: int | None = None) -> bool:
    """Begin a run, or go on with it, as the command line does; whether it reached its end before that many steps."""
    begun = resume.newest(folder, lambda line: None) if runs.begun(folder) else None
    experiment = resume.build(begun, wanted) if begun else Experiment.build(wanted)
    interrupts = Interrupts()
    meter = Meter(experiment.trainer, experiment.composition, wanted.measure_every)
    recorder = Recorder(experiment, meter, folder, begun, interrupts)
    for observer in (recorder, meter, Stop(interrupts, stop)):
        experiment.composition.observe(observer)
    with recorder:
        try:
            experiment.trainer.train()
        except StoppedError:
            return False
        recorder.finish()
    return True


def log(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log, without what was measured by the clock."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf8").splitlines()]
    for record in records:
        del record["time"]
        if "effects" in record:
            del record["effects"]["seconds"]
    return records


def effects(folder: Path) -> Any:
    found = json.loads((folder / "effects.json").read_text(encoding="utf8"))
    for plugin in found["plugins"].values():
        del plugin["share of the time"]
    return found


def state(folder: Path) -> Any:
    """The training state of the last checkpoint; not how long the log is, with the clock's digits, nor which others there are."""
    found = checkpoint.load_training(folder / "last")
    del found["run"]["log"], found["run"]["keeping"]["saved"]
    return json.loads(json.dumps(found, default=lambda tensor: [str(tensor.dtype), tensor.tolist()]))


def same_run(one: Path, other: Path) -> None:
    """Weights, optimizer, plugin state, log, scores and effects are equal, bit for bit."""
    assert log(one) == log(other)
    for link in ("last", "best"):
        assert (one / link).resolve().name == (other / link).resolve().name
        name = f"{link}/model.safetensors"
        assert (one / name).read_bytes() == (other / name).read_bytes(), f"{name} differs"
    assert state(one) == state(other)
    for name in ("scores.json", "finished.json"):
        assert json.loads((one / name).read_text()) == json.loads((other / name).read_text())
    assert effects(one) == effects(other)


def exact(place: Path, folder: Path, plugins: Mapping[str, Any], stops: Sequence[int], **more: Any) -> None:
    """Stopped after each of these numbers of further steps, and resumed, it is the run that never stopped."""
    wanted = settings(place, plugins, **more)
    assert go(folder / "whole", wanted)
    for stop in stops:
        if go(folder / "stopped", wanted, stop=stop):
            break
    else:
        assert go(folder / "stopped", wanted)
    same_run(folder / "whole", folder / "stopped")


@pytest.mark.parametrize("name", ours())
def test_a_run_with_any_plugin_resumes_exactly(name: str, place: Path, tmp_path: Path) -> None:
    """Surgery needs several tasks a step. Where it stops, the name decides."""
    plugins: dict[str, Any] = {"rrobin": {"per_step": 3}} if name in SURGERY else {}
    stops = [random.Random(name).randint(1, STEPS - 1)]
    exact(place, tmp_path, plugins | {name: ACTING.get(name, {})}, stops)


def test_a_run_without_plugins_resumes_exactly_at_every_step(place: Path, tmp_path: Path) -> None:
    exact(place, tmp_path, {}, [1] * STEPS)


COMBINED = [name for name in ours() if name != "torchjd"]  # with its solver, one run takes longer than all others


@st.composite
def combination(draw: Callable[[Any], Any]) -> dict[str, Any]:
    """Two to six plugins that may be in one run, in any order; with surgery, several tasks share a step."""
    chosen: list[str] = []
    for name in draw(st.lists(st.sampled_from(COMBINED), min_size=2, max_size=6, unique=True)):
        if apart((*chosen, name)):
            chosen.append(name)
    plugins = {name: dict(ACTING.get(name, {})) for name in chosen}
    if NO_COSINE & plugins.keys() and "only" not in plugins:
        for name in ("weighted", "fixed_weights"):
            if name in plugins:
                plugins[name] = {"weights": {"mood": 2, "same": 1}}
    if set(SURGERY) & plugins.keys() and not any("choose_tasks" in decides(name) for name in chosen):
        plugins = {"rrobin": {"per_step": 2}} | plugins
    elif set(SURGERY) & plugins.keys() and "rrobin" in plugins:
        plugins["rrobin"] = {"per_step": 2}
    return plugins


WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # a simpler run takes as long
STOPS = st.lists(st.integers(1, STEPS), min_size=1, max_size=3)


@hypothesis_settings(PATIENT, max_examples=10, phases=WITHOUT_SHRINKING)
@given(plugins=combination(), stops=STOPS, seed=st.integers(0, 5))
def test_combinations_resume_exactly_wherever_they_stop(
    plugins: dict[str, Any], stops: list[int], seed: int, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    exact(place, tmp_path_factory.mktemp("runs"), plugins, stops, seed=seed)


@pytest.mark.slow
@hypothesis_settings(PATIENT, max_examples=100, phases=WITHOUT_SHRINKING)
@given(plugins=combination(), stops=STOPS, seed=st.integers(0, 5), micro=st.sampled_from([30, 16384]))
def test_many_more_combinations_resume_exactly(
    plugins: dict[str, Any],
    stops: list[int],
    seed: int,
    micro: int,
    place: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    more = {"seed": seed, "micro_batch_tokens": micro, "save_steps": 2, "patience": 1}
    exact(place, tmp_path_factory.mktemp("runs"), plugins, stops, **more)


TWO_STAGES = """
from dataclasses import dataclass
from regkit import Stage, hookimpl

@dataclass
class Plugin:
    @hookimpl
    def stages(self):
        return [Stage("warm", ["same", "mood"], steps=5, learning_rate=0.02)]
"""


def with_stranger(monkeypatch: pytest.MonkeyPatch, folder: Path, **modules: str) -> None:
    """These modules beside the plugins that are installed."""
    points = list(catalog.installed().values())
    install(monkeypatch, folder, **modules)
    added: Sequence[EntryPoint] = catalog.entry_points(group=catalog.GROUP)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [*points, *added])


@pytest.mark.parametrize("plugin", [None, "bregman", "ema", "mixout", "uncertainty", "adaptive", "reinit_top"])
@pytest.mark.parametrize("stops", [[6], [2, 5, 6]], ids=str)
def test_a_run_of_two_stages_resumes_exactly_in_either(
    plugin: str | None, stops: list[int], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", two=TWO_STAGES)
    exact(place, tmp_path, {"two": {}} | ({plugin: {}} if plugin else {}), stops)
