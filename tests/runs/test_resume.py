"""A run that was stopped and resumed is the run that never stopped, bit for bit, whatever plugins it has and wherever it stops."""

import json
import random
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from regkit import Experiment, Settings, hookimpl
from regkit.base.errors import RunError, StoppedError
from regkit.base.files import digest_of
from regkit.runs import checkpoint, folders, packing, resume
from regkit.runs.interrupts import Interrupts
from regkit.runs.recorder import Recorder
from regkit.runs.resumable import newest
from regkit.runs.sinks import FolderSink
from regkit.training.effects import Meter
from regkit.training.fit import MOST_ON_CPU
from tests.helpers import PATIENT, regkit, slow_but, with_stranger, write_encoder, write_tasks
from tests.plugins.cases import table
from tests.testing.test_promises import SURGERY, acting, apart, crowds, decides, ours

STEPS = 11  # updates of nine an epoch: scored after 0, 9 and 11

# Options that make a plugin act on the tasks of `tests.helpers`, whose runs are short.
ACTING: dict[str, dict[str, Any]] = {
    "domain": {"corpus": "tasks", "steps": 6},
    "only": {"task": "same"},
    "label_smoothing": {"tasks": ["mood", "same"]},
    "class_weights": {"tasks": ["mood", "same"]},
    "focal": {"tasks": ["mood", "same"]},
    "supcon": {"tasks": ["mood", "same"]},
    "weighted": {"weights": {"mood": 1, "same": 2, "near": 0.5}},
    "fixed_weights": {"weights": {"mood": 2, "near": 0.5}},
    "r4f": {"bound": 0.5},
    "adaptive": {"reference": {"mood": 0.9}},
    "gradvac": {"beta": 0.3},
    "dwa": {"T": 0.1},
}
NO_COSINE = {"freeze", "r4f"}  # they refuse a head without weights


@dataclass
class Stop:
    """An observer that asks a run to stop in this step, or with a minus while that one is scored, as a signal would."""

    interrupts: Interrupts
    after: int | None
    done: int = 0

    @hookimpl
    def after_step(self) -> None:
        self.done += 1
        if self.done == self.after:
            self.interrupts.asked = signal.SIGINT

    @hookimpl
    def evaluated(self, step: int) -> None:
        if self.after == -step:
            self.interrupts.asked = signal.SIGINT


def settings(place: Path, plugins: Mapping[str, Mapping[str, Any]], **more: Any) -> Settings:
    tasks = ["mood", "same"] if NO_COSINE & plugins.keys() else ["mood", "same", "near"]
    plugins = {
        name: {**given, "weights": {task: given["weights"][task] for task in tasks if task in given["weights"]}}
        if "weights" in given
        else given
        for name, given in plugins.items()
    }  # of tasks that are there
    values = {"data": place / "data", "encoder": str(place / "encoder"), "tasks": tasks, "batch_size": 8}
    values |= {"steps": STEPS, "learning_rate": 0.01, "measure_every": 2, "plugins": plugins, "device": "cpu"}
    return Settings.checked(values | more, "the test")


def go(folder: Path, wanted: Settings, *, stop: int | None = None, scoring: int | None = None) -> bool:
    """Begin a run, or go on with it, as the command line does; whether it reached its end.

    A signal comes after so many steps (`stop`), or while the weights after so many updates are scored (`scoring`).
    """
    begun = newest(folder, lambda line: None) if folders.is_run(folder) else None
    experiment = resume.build(begun, wanted) if begun else Experiment.build(wanted)
    interrupts = Interrupts()
    meter = Meter(experiment.trainer.state, experiment.composition, wanted.measure_every)
    recorder = Recorder(experiment, meter, FolderSink(experiment, folder, begun), interrupts, begun)
    for observer in (recorder, meter, Stop(interrupts, stop)):
        experiment.composition.observe(observer)
    trainer, between = experiment.trainer, experiment.trainer.evaluator.between

    def signalled() -> None:
        interrupts.asked = signal.SIGINT if trainer.state.position.step == scoring else interrupts.asked
        between()

    trainer.evaluator.between = signalled
    with recorder:
        try:
            trainer.train()
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


@pytest.mark.parametrize("step", slow_but([0, 6], [0]))
def test_a_signal_ends_an_evaluation_between_two_passes(place: Path, tmp_path: Path, step: int) -> None:
    """What was trained is saved, and the run that goes on scores first."""
    wanted = settings(place, {"ema": {}, "rrobin": {}}, steps=6)
    assert go(tmp_path / "whole", wanted)
    assert not go(tmp_path / "stopped", wanted, scoring=step)
    records = log(tmp_path / "stopped") if step else []
    assert step not in [record["step"] for record in records if "scores" in record]
    assert go(tmp_path / "stopped", wanted)
    same_run(tmp_path / "whole", tmp_path / "stopped")


CROWDS = crowds(ours())


@pytest.mark.parametrize("names", slow_but(CROWDS, [each for each in CROWDS if "bregman" in each]), ids="-".join)
def test_a_run_with_any_plugins_resumes_exactly(names: tuple[str, ...], place: Path, tmp_path: Path) -> None:
    """Surgery needs several tasks a step. Where it stops, the names decide."""
    several = {"rrobin": {"per_step": 3}} if set(SURGERY) & set(names) else {}
    stops = [random.Random(" ".join(names)).randint(1, STEPS - 1)]
    exact(place, tmp_path, {name: ACTING.get(name, {}) for name in names} | several, stops)


def test_a_run_without_plugins_resumes_exactly_at_every_step(place: Path, tmp_path: Path) -> None:
    exact(place, tmp_path, {}, [1] * STEPS)


@pytest.mark.parametrize("name", slow_but([None, "adaptive", "dwa"], ["adaptive"]))
def test_a_run_that_is_stopped_while_it_is_scored_is_not_scored_again(
    name: str | None, place: Path, tmp_path: Path
) -> None:
    exact(place, tmp_path, {name: ACTING.get(name, {})} if name else {}, [-9, -11])


COMBINED = [name for name in acting() if name != "torchjd"]  # with its solver, one run takes longer than all others


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


@pytest.mark.slow
@hypothesis_settings(PATIENT, max_examples=5, phases=WITHOUT_SHRINKING)
@given(plugins=combination(), stops=STOPS, seed=st.integers(0, 5), micro=st.sampled_from([120, 16384]))
def test_combinations_resume_exactly_wherever_they_stop(
    plugins: dict[str, Any],
    stops: list[int],
    seed: int,
    micro: int,
    place: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    more = {"seed": seed, "micro_batch_tokens": micro, "save_steps": 2, "eval_steps": 3, "patience": 1}
    exact(place, tmp_path_factory.mktemp("runs"), plugins, stops, **more)


TWO_STAGES = """
from dataclasses import dataclass, field
from regkit import Stage, hookimpl

@dataclass
class Plugin:
    prepared: int = field(init=False, default=0)

    @hookimpl
    def stages(self):
        return [Stage("warm", ["same", "mood"], steps=5, learning_rate=0.02)]

    @hookimpl
    def prepare(self):
        self.prepared += 1  # no state: it follows from the stages

    @hookimpl
    def extra_losses(self, output):
        return {"two": self.prepared * output.square().mean()}
"""


@pytest.mark.parametrize("plugin", slow_but(["bregman", "ema", "uncertainty", "reinit_top"], ["bregman"]))
def test_a_run_of_two_stages_resumes_exactly_in_either(
    plugin: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", two=TWO_STAGES)
    exact(place, tmp_path, {"two": {}, plugin: {}}, [2, 5, 6])


@pytest.mark.parametrize(
    ("plugin", "stages"),
    table(
        [("ema", ["domain", "finetune"]), ("ema", ["finetune"]), ("uncertainty", ["domain"])],
        [("ema", ["domain", "finetune"])],
    ),
)
def test_a_run_with_domain_pretraining_resumes_exactly_in_either_stage(
    plugin: str, stages: list[str], place: Path, tmp_path: Path
) -> None:
    plugins = {"domain": {"corpus": "tasks", "steps": 5}, plugin: {"stages": stages}}
    exact(place, tmp_path, plugins, [2, 5], steps=3)  # 2 and 7 updates, of 5 and 3


# Another run, and a run from a stranger


@pytest.fixture
def stopped(place: Path, tmp_path: Path) -> Path:
    """A run that was stopped after 7 of 11 steps."""
    assert not go(tmp_path / "run", settings(place, {"rrobin": {}, "ema": {}}), stop=7)
    return tmp_path / "run"


def resumed(folder: Path, *more: object) -> str:
    """What is said where going on is refused."""
    before = (folder / "log.jsonl").read_bytes()
    ran = regkit("train", "--resume", folder.name, *more, cwd=folder.parent)
    assert ran.status == 2, ran.out
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err
    assert (folder / "log.jsonl").read_bytes() == before
    return ran.err


def test_a_task_that_got_no_update_is_said_among_the_warnings_of_a_resumed_run(place: Path, tmp_path: Path) -> None:
    wanted = settings(place, {"only": {"task": "same"}})
    assert not go(tmp_path / "run", wanted, stop=10)
    assert go(tmp_path / "run", wanted)
    (said,) = (each for each in effects(tmp_path / "run")["warnings"] if "no update" in each)
    assert said.startswith("stage 'finetune' made no update for mood and near, which it only scored; ")


def test_updates_before_a_resume_count_as_updates(place: Path, tmp_path: Path) -> None:
    """The last update, the only one after it, is of one task."""
    wanted = settings(place, {"rrobin": {}})
    assert not go(tmp_path / "run", wanted, stop=10)
    assert go(tmp_path / "run", wanted)
    assert not [said for said in effects(tmp_path / "run")["warnings"] if "no update" in said]


@pytest.mark.slow
def test_a_run_goes_on_with_another_bound_on_memory(place: Path, tmp_path: Path) -> None:
    """What was found to fit is found again, for the new bound; with the same bound it is remembered."""
    folder = tmp_path / "run"
    assert not go(folder, settings(place, {}, memory=4 * 10**9), stop=4)
    ran, found = Settings.read(folder / "config.toml"), newest(folder, lambda line: None)
    tokens = found.training["position"]["micro_batch_tokens"]
    assert tokens
    more = resume.same(folder, ran, ran.model_copy(update={"memory": 5 * 10**9}))
    assert more.memory == 5 * 10**9
    assert resume.build(found, ran).trainer.state.position.micro_batch_tokens == tokens
    assert resume.build(found, more).trainer.state.position.micro_batch_tokens is None
    assert not go(folder, more, stop=3)
    again = newest(folder, lambda line: None)  # with the first bound again, which config.toml has
    assert resume.build(again, ran).trainer.state.position.micro_batch_tokens is None
    assert go(folder, ran)


def test_a_run_keeps_how_its_micro_batches_are_counted(place: Path, tmp_path: Path) -> None:
    """With the number of its tokens, that of its device; and one that began before squares were counted has none."""
    folder = tmp_path / "run"
    assert not go(folder, settings(place, {}), stop=4)
    ran, found = Settings.read(folder / "config.toml"), newest(folder, lambda line: None)
    left_out = resume.same(folder, ran, ran.model_copy(update={"micro_batch_tokens": None}))
    assert left_out.micro_batch_tokens == ran.micro_batch_tokens == MOST_ON_CPU
    trainer = resume.build(found, ran).trainer
    assert trainer.state.position.square == trainer.fit.square > 0
    del found.training["position"]["square"]
    older = resume.build(found, ran).trainer
    older.train()
    assert older.fit.square == older.state.position.square == 0


@pytest.mark.parametrize(
    "name", slow_but([".{}.123.part", ".{}.123.part.old", ".{}.123.old"], [".{}.123.part.old", ".{}.123.old"])
)
def test_a_whole_checkpoint_under_a_hidden_name_gets_its_own_again(name: str, place: Path, tmp_path: Path) -> None:
    """The process was killed when the checkpoint was written, before it was renamed: it may be the best one."""
    wanted = settings(place, {"rrobin": {}}, save_steps=None, keep=2)
    assert go(tmp_path / "whole", wanted)
    folder = tmp_path / "stopped"
    assert not go(folder, wanted, stop=4)
    last = (folder / "last").resolve()
    last.rename(last.with_name(name.format(last.name)))
    (folder / "last").unlink()
    assert not go(folder, wanted, stop=1)
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"finetune-4", "finetune-5"}
    assert go(folder, wanted)
    same_run(tmp_path / "whole", folder)


def test_a_hidden_checkpoint_that_is_the_best_stays_the_best(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    wanted = settings(place, {}, monitor="near.loss")
    assert not go(folder, wanted, stop=-9)
    best = next(path for path in (folder / "checkpoints").iterdir())
    best.rename(best.with_name(f".{best.name}.7.part"))
    assert not go(folder, wanted, stop=1)  # nothing was scored since: that one is still the best
    assert (folder / "best").resolve() == folder / "checkpoints" / "finetune-9"
    assert regkit("eval", folder, "--json", cwd=tmp_path).status == 0


def test_what_the_user_puts_beside_the_checkpoints_stays(place: Path, tmp_path: Path) -> None:
    folder, wanted = tmp_path / "run", settings(place, {}, save_steps=2)
    assert not go(folder, wanted, stop=4)
    (folder / "checkpoints" / "notes.txt").write_text("mine", encoding="utf8")
    (folder / "checkpoints" / "mine").mkdir()
    assert go(folder, wanted)
    assert (folder / "checkpoints" / "notes.txt").read_text(encoding="utf8") == "mine"
    assert (folder / "checkpoints" / "mine").is_dir()


def test_a_run_killed_at_its_very_start_leaves_the_folder_free(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("lock", "environment.json", "tasks.json"):
        (folder / name).write_text("", encoding="utf8")
    folders.check_free(folder)
    assert go(folder, settings(place, {}, steps=1))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tasks.json").write_text("", encoding="utf8")  # without the lock, no run has left it
    with pytest.raises(RunError, match="exists already"):
        folders.check_free(tmp_path / "mine")


FORGETFUL = """
from dataclasses import dataclass
from regkit import hookimpl

@dataclass
class Plugin:
    @hookimpl
    def prepare(self): ...
    def state_dict(self): return {}["lost"]
    def load_state_dict(self, state): ...
"""


def test_a_plugin_whose_state_cannot_be_saved_is_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", x=FORGETFUL)
    words = ("--data", place / "data", "--encoder", place / "encoder", "--steps", 2)
    ran = regkit("train", *words, "-p", "x", cwd=tmp_path)
    assert ran.status == 2
    assert ran.err.startswith("regkit: plugin 'x' failed in state_dict: KeyError: 'lost'"), ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            ["--steps", 12],
            "run has steps = 11, not 12: its learning rate falls to 0 at that end; leave the option out, or ",
        ),
        (["--epochs", 2], "run has epochs = 3, not 2: "),
        (["--lr", 0.5], "run has learning_rate = 0.01, not 0.5: a run goes on as it began; "),
        (["--tasks", "mood"], "run has tasks = ['mood', 'same', 'near'], not ['mood']: "),
        (["-p", "smart"], "run has plugins = rrobin, ema, not rrobin, ema, smart: "),
        (["-p", "ema:decay=0.5"], "run has ema:decay = its default, not 0.5: "),
        (["--patience", 2], "run has patience = None, not 2: "),
    ],
    ids=str,
)
def test_another_run_is_refused_with_the_first_difference(stopped: Path, given: list[object], says: str) -> None:
    assert resumed(stopped, *given).startswith(f"regkit: {says}")


@pytest.mark.parametrize("words", [[], ["--no-cuda-graphs"]], ids=str)
def test_a_run_that_notes_no_cuda_graphs_goes_on_without_them(
    stopped: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older version made it: it had none."""
    config = stopped / "config.toml"
    noted = config.read_text(encoding="utf8")
    assert noted.count("cuda_graphs = true\n") == 1
    config.write_text(noted.replace("cuda_graphs = true\n", ""), encoding="utf8")
    assert "run has cuda_graphs = False, not True: a run goes on as it began" in resumed(stopped, "--cuda-graphs")
    built = []
    monkeypatch.setattr("regkit.runs.experiment.Repeated", lambda: built.append(True))
    ran = regkit("train", "--resume", stopped, *words, cwd=stopped.parent)
    assert ran.status == 0, ran.err
    assert not built


def test_what_changes_no_result_may_differ_and_examples_are_known_by_content(
    stopped: Path, place: Path, tmp_path: Path
) -> None:
    moved = write_tasks(tmp_path / "moved")
    text = (moved / "mood-train.csv").read_text(encoding="utf8")
    (moved / "mood-train.csv").write_text(text.replace("good", "fine"), encoding="utf8")
    assert "run was trained on other examples of task 'mood'" in resumed(stopped, "--data", moved)
    (moved / "mood-train.csv").write_text(text, encoding="utf8")
    ran = regkit("train", "--resume", "run", "--data", "moved", "--keep", 4, "--save-steps", 1, cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert go(tmp_path / "whole", settings(place, {"rrobin": {}, "ema": {}}))
    same_run(tmp_path / "whole", stopped)
    assert len(list((stopped / "checkpoints").iterdir())) >= 4
    assert (tmp_path / "runs" / "latest").resolve() == stopped


def test_what_was_logged_after_the_checkpoint_is_cut_off_and_the_checkpoint_is_not_written_again(
    stopped: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed has often logged more than its last checkpoint knows, the last line perhaps by half."""
    with (stopped / "log.jsonl").open("a") as file:
        file.write('{"time": 1.0, "stage": "finetune", "step": 7, "losses": {}}\n{"time": 1.0, "sta')
    (stopped / ".scores.json.123.part").touch()
    (stopped / "checkpoints" / ".finetune-8.123.part").mkdir()
    written: list[str] = []
    save = checkpoint.save

    def watched(folder: Path, *more: Any) -> None:
        written.append(folder.name)
        save(folder, *more)

    monkeypatch.setattr(checkpoint, "save", watched)
    assert go(stopped, settings(place, {"rrobin": {}, "ema": {}}, save_steps=7))
    assert written == ["finetune-9", "finetune-11"]
    assert not list(stopped.rglob(".*"))
    assert go(tmp_path / "whole", settings(place, {"rrobin": {}, "ema": {}}))
    same_run(tmp_path / "whole", stopped)


def test_the_encoder_that_a_run_began_with_is_not_needed_to_go_on(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    write_tasks(tmp_path / "data")
    wanted = settings(tmp_path, {"l2sp": {}})
    assert go(tmp_path / "whole", wanted)
    assert not go(tmp_path / "run", wanted, stop=4)
    (tmp_path / "encoder").rename(tmp_path / "gone")
    assert regkit("train", "--resume", "run", cwd=tmp_path).status == 0
    same_run(tmp_path / "whole", tmp_path / "run")


def forge(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a checkpoint's training state, and let its manifest agree."""
    from safetensors.torch import save_file

    last = (folder / "last").resolve()
    state = checkpoint.load_training(last)
    change(state)
    tensors: dict[str, Any] = {}
    (last / "training.json").write_text(json.dumps(packing.pack(state, tensors)), encoding="utf8")
    save_file(tensors, last / "training.safetensors")
    sign(last)


def sign(last: Path) -> None:
    manifest = json.loads((last / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        entry |= {"bytes": (last / name).stat().st_size, "sha256": digest_of(last / name)}
    (last / "manifest.json").write_text(json.dumps(manifest))


def first_moment(state: dict[str, Any]) -> dict[str, Any]:
    return next(iter(state["optimizer"]["state"].values()))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("run"),
        lambda state: state.pop("position"),
        lambda state: state.update(position=3),
        lambda state: state["position"].update(step="x"),
        lambda state: state["run"].update(log=-1),
        lambda state: state["run"].update(log="x"),
        lambda state: state["run"].update(keeping=[1]),
        lambda state: state["run"].update(data={}),
        lambda state: state.update(optimizer=[]),
        lambda state: state.update(optimizer={}),
        lambda state: state["optimizer"].update(param_groups=[]),
        lambda state: first_moment(state).update(exp_avg=torch.ones(3)),
        lambda state: state.update(plugins={"nobody": {}}),
        lambda state: state.update(plugins={"ema": {}}),
        lambda state: state.update(plugins={"ema": {"average": {}}}),
        lambda state: state.update(model={}),
    ],
)
def test_a_training_state_that_regkit_does_not_write_is_one_sentence(
    stopped: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    """The checksum of a stranger's checkpoint says nothing about its contents."""
    forge(stopped, change)
    said = resumed(stopped)
    assert "cannot be resumed from" in said or "trained on other examples" in said


def test_a_header_that_asks_for_much_memory_is_one_sentence(stopped: Path) -> None:
    """safetensors looks at the sizes in a header before it takes memory: they must add up to the size of the file."""
    path = (stopped / "last").resolve() / "training.safetensors"
    for header in (
        {"0": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
        {"0": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}},
    ):
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + b"0000")
        sign(path.parent)
        assert "cannot be resumed from" in resumed(stopped)
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    sign(path.parent)
    assert "cannot be resumed from" in resumed(stopped)


def test_a_plugin_that_is_not_installed_is_refused_before_anything_is_imported(stopped: Path) -> None:
    config = stopped / "config.toml"
    config.write_text(config.read_text().replace("[plugins.ema]", "[plugins.os]"), encoding="utf8")
    said = resumed(stopped)
    assert "there is no plugin 'os'" in said
    assert said.endswith(
        " A class of your own is handed in again, in Python: regkit.train(resume='run', plugins=[...]).\n"
    )


def test_what_is_imported_for_a_configuration_is_said_first(stopped: Path) -> None:
    out = regkit("train", "--resume", "run", "--dry-run", cwd=stopped.parent).out.splitlines()
    wanted = "rrobin (regkit_plugins.rrobin:RoundRobin), ema (regkit_plugins.ema:EMA)"
    assert out[0] == f"importing, as run/config.toml asks: {wanted}"
    assert "run goes on after step 7 of stage finetune" in out


def test_a_position_beyond_the_end_ends_the_run(stopped: Path) -> None:
    forge(stopped, lambda state: state["position"].update(step=10**9))
    assert regkit("train", "--resume", "run", cwd=stopped.parent).status == 0


@pytest.mark.parametrize("name", ["log.jsonl", "checkpoints"])
def test_a_run_whose_files_lead_elsewhere_is_refused(stopped: Path, name: str) -> None:
    (stopped / name).rename(stopped.parent / "elsewhere")
    (stopped / name).symlink_to("../elsewhere")
    assert f"run/{name} leads out of the run's folder" in resumed(stopped)


def test_a_copy_with_folders_in_place_of_links_is_refused_before_it_trains_and_goes_on_without_them(
    stopped: Path,
) -> None:
    places = [stopped / "last", stopped / "best"]
    for place in places:
        if place.is_symlink():
            target = place.resolve()
            place.unlink()
            shutil.copytree(target, place)
    solid = [f"run/{place.name}" for place in places if place.is_dir()]
    said = resumed(stopped)
    assert f"{' and '.join(solid)}: a run links to its checkpoints" in said
    assert said.endswith("remove what is named here, for run/checkpoints holds the same.\n")
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    assert regkit("train", "--resume", "run", cwd=stopped.parent).status == 0


def test_a_lock_that_leads_elsewhere_is_not_followed(stopped: Path) -> None:
    (stopped.parent / "precious").write_text("text")
    (stopped / "lock").unlink()
    (stopped / "lock").symlink_to("../precious")
    resumed(stopped)
    assert (stopped.parent / "precious").read_text() == "text"


@pytest.mark.parametrize("name", ["../../encoder", "..", "/etc", "a\0b"])
def test_a_best_checkpoint_elsewhere_is_refused(stopped: Path, name: str) -> None:
    forge(stopped, lambda state: state["run"]["keeping"].update(best=name))
    assert "cannot be resumed from: its state: keeping.best is " in resumed(stopped)
    assert not (stopped / "best").is_symlink()


def test_another_number_of_threads_is_said(stopped: Path) -> None:
    found = json.loads((stopped / "environment.json").read_text())
    (stopped / "environment.json").write_text(json.dumps(found | {"threads": 99}))
    ran = regkit("train", "--resume", "run", cwd=stopped.parent)
    assert "no longer as when the run began: threads; the last digits" in ran.out


ONCE = """
from dataclasses import dataclass, field
from regkit import hookimpl

@dataclass
class Plugin:
    begins: bool = field(init=False, default=False)

    @hookimpl(wrapper=True)
    def choose_tasks(self, step):
        self.begins = step < 3
        return (yield)

    @hookimpl
    def extra_losses(self, output):
        return {"once": output.square().mean()} if self.begins else {}
"""


@pytest.mark.slow
def test_whose_term_it_was_is_known_though_the_term_is_no_longer_given(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", x=ONCE)
    exact(place, tmp_path, {"x": {}}, [5])
