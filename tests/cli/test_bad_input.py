"""Whatever a user gets wrong is one sentence on standard error and exit status 2, and nothing is left behind."""

import errno
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from regkit.base import files
from regkit.cli import evaluate as evaluating
from regkit.cli import plugins as listing
from regkit.cli import train as training
from tests.cli.says import ANNOUNCE, CASES, PROSE, Case, Content
from tests.cli.test_cli import shell
from tests.helpers import Ran, everything_in, install, regkit, slow_but, write_encoder, write_tasks


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything is right: `encoder`, `data` and a finished `run`."""
    folder = tmp_path_factory.mktemp("right")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    ran = regkit("train", "--encoder", "encoder", "--data", "data", "--steps", 1, "--output", "run", cwd=folder)
    assert ran.status == 0, ran.err
    shutil.rmtree(folder / "runs")
    return folder


@pytest.fixture
def place(model: Path, tmp_path: Path) -> Path:
    """A copy of it for one test; the copied run's data is the copy beside it."""
    shutil.copytree(model, tmp_path / "place", symlinks=True)
    path = tmp_path / "place" / "run" / "config.toml"
    path.write_text(path.read_text(encoding="utf8").replace(str(model), str(tmp_path / "place")), encoding="utf8")
    return tmp_path / "place"


def arrange(place: Path, files: Mapping[str, Content]) -> None:
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(exist_ok=True)
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def is_one_sentence(ran: Ran) -> None:
    assert ran.status == 2, ran
    assert ran.err.startswith("regkit: "), ran.err
    command = ran.err.rpartition(": ")[2].startswith("regkit ")  # to be pasted as it stands
    assert command or ran.err.endswith((".\n", "?\n")), ran.err
    assert not ran.err.endswith(("..\n", "?.\n")), ran.err
    assert ran.err[:-1].isprintable(), ran.err
    assert "Traceback" not in ran.err + ran.out


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_wrong_is_one_sentence_and_leaves_nothing_behind(
    case: Case, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrange(place, case.files)
    if case.plugins:
        install(monkeypatch, tmp_path / "strangers", **case.plugins)
    before = everything_in(place)
    ran = regkit(*case.command, cwd=place)
    is_one_sentence(ran)
    found = 0
    for part in (case.says,) if isinstance(case.says, str) else case.says:
        assert part in ran.err[found:], ran.err
        found = ran.err.index(part, found)
    if case.name != "loss not finite":  # that run had begun
        assert everything_in(place) == before


def test_the_folder_that_all_cases_start_from_is_right(place: Path) -> None:
    assert regkit("eval", "run", "--json", cwd=place).status == 0
    ran = regkit("train", "--encoder", "encoder", "--data", "data", "--steps", 1, "-p", "smart", cwd=place)
    assert ran.status == 0, ran.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
@pytest.mark.parametrize("command", [("train", "--encoder", "encoder", "--data", "data"), ("eval", "run")])
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_here_is_not_used(command: tuple[str, ...], device: str, place: Path) -> None:
    ran = regkit(*command, "--device", device, cwd=place)
    is_one_sentence(ran)
    assert f"there is no device '{device}' here. " in ran.err


def test_a_name_that_the_hub_does_not_give_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def refuse(name: str, *, allow_patterns: list[str]) -> str:
        raise OSError("no route to host\n\nCheck your connection.")

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    before = everything_in(place)
    ran = regkit("train", "--encoder", "bert-base-uncased", "--data", "data", cwd=place)
    is_one_sentence(ran)
    assert "'bert-base-uncased' is no folder here, " in ran.err
    assert "no route to host" in ran.err
    assert everything_in(place) == before


def test_a_demo_that_is_not_installed_is_one_sentence(place: Path) -> None:
    ran = regkit("train", "--data", "data", cwd=place)
    is_one_sentence(ran)
    assert "pip install 'regkit[demo]'" in ran.err


STEP = ANNOUNCE + "    def extra_losses(self, task):\n        return {'x': 1 / 0}\n"
NOT_FINITE = ANNOUNCE + "    def extra_losses(self, task, output):\n        return {'x': output.sum() * float('nan')}\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            STEP,
            "plugin 'x' failed in extra_losses at stage finetune, step 0, task mood, micro-batch 0: ZeroDivisionError: ",
        ),
        (NOT_FINITE, "no finite loss and gradient in 5 steps in a row, the last of them step 5 with task 'same'"),
        (STEP.replace("1 / 0", "3"), "plugin 'x'"),
        (STEP.replace("{'x': 1 / 0}", "3"), "plugin 'x'"),
        (STEP.replace("task)", "output)").replace("'x': 1 / 0", "'task': output.sum()"), "'task'"),
    ],
    ids=["raises", "not finite", "a loss that is no tensor", "no mapping", "a name that is taken"],
)
def test_a_plugin_that_fails_in_a_step_is_one_sentence(
    source: str, says: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "strangers", x=source)
    ran = regkit("train", "--encoder", "encoder", "--data", "data", "--steps", 9, "-p", "x", cwd=place)
    is_one_sentence(ran)
    assert says in ran.err


def full(*arguments: object, **named: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_no_part_of_a_prediction_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "p").mkdir()
    (place / "p" / "same-dev.csv").write_text("row,same\nfrom before\n", encoding="utf8")
    open_file, before = Path.open, everything_in(place)

    def half(path: Path, *arguments: Any, **named: Any) -> IO[str]:
        file = open_file(path, *arguments, **named)
        if "same" in path.name and "w" in arguments:
            write = file.write
            file.write = lambda text: full(write(text[: len(text) // 2]))
        return file

    monkeypatch.setattr(Path, "open", half)
    ran = regkit("eval", "run", "--predictions", "p", cwd=place)
    monkeypatch.undo()
    is_one_sentence(ran)
    assert ran.err == f"regkit: {Path('p', 'same-dev.csv')}: No space left on device.\n"
    after = everything_in(place)
    assert after.keys() - before.keys() <= {"p/mood-dev.csv"}
    assert after["p/same-dev.csv"] == before["p/same-dev.csv"]


def test_a_full_disk_leaves_no_empty_folder_of_predictions(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", full)
    ran = regkit("eval", "run", "--predictions", "new", cwd=place)
    is_one_sentence(ran)
    assert not (place / "new").exists()


def test_a_disk_that_is_full_in_the_middle_of_a_file_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, files.replacing(tmp_path / "answers.csv"):
        full()
    assert caught.value.filename == str(tmp_path / "answers.csv")
    with pytest.raises(OSError, match="Input/output") as caught, files.replacing(tmp_path / "answers.csv"):
        raise OSError(errno.EIO, "Input/output error")  # of what is read meanwhile
    assert caught.value.filename is None


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(tmp_path / "scores.json", "old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(tmp_path / "scores.json", "new")
    assert everything_in(tmp_path) == {"scores.json": b"old".hex()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_checkpoint_that_does_not_fit_is_one_sentence_and_is_not_there(place: Path) -> None:
    # -B: what Python compiles would be cut off at the same size, and break every process after this one
    train = "$python -B -m regkit train --encoder encoder --data data --steps 1 --output mine"
    done = shell(f"ulimit -f 16; {train} >out 2>err; echo $? >status", place)  # 16 kB
    assert done.stderr == ""
    ran = Ran(*(read((place / name).read_text(encoding="utf8")) for name, read in READERS.items()))
    is_one_sentence(ran)
    assert "finetune-1" in ran.err
    assert not list((place / "mine" / "checkpoints").iterdir())
    is_one_sentence(regkit("eval", "mine", cwd=place))


READERS: dict[str, Any] = {"status": int, "out": str, "err": str}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_takes_nothing_is_one_sentence(place: Path) -> None:
    done = shell("$python -m regkit plugins > /dev/full", place)
    is_one_sentence(Ran(done.returncode, done.stdout, done.stderr))
    assert "No space left on device" in done.stderr


def piped(command: str, reader: str, place: Path) -> tuple[int, str, str]:
    """What a command leaves behind whose reader stops: its status, and what was read and printed as an error."""
    done = shell(f"$python -m regkit {command} | {reader}; exit ${{PIPESTATUS[0]}}", place)
    return done.returncode, done.stdout, done.stderr


PRINTING = ["train --help", "plugins", "plugins smart", "settings", "settings seed", "settings --markdown"]


@pytest.mark.parametrize("command", slow_but(PRINTING, ["train --help", "plugins"]))
def test_a_reader_that_does_not_read_is_no_error(place: Path, command: str) -> None:
    assert piped(command, "true", place) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", " --json"])
def test_scores_that_nobody_reads_are_no_error(place: Path, more: str) -> None:
    assert piped(f"eval run --predictions p{more}", "true", place) == (0, "", "")
    assert sorted(path.name for path in (place / "p").iterdir()) == ["mood-dev.csv", "near-dev.csv", "same-dev.csv"]


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["true", "head -3"])
def test_a_reader_that_stops_reading_ends_the_printing_and_not_the_training(place: Path, reader: str) -> None:
    words = "train --encoder encoder --data data --epochs 2 --output mine"
    status, read, err = piped(words, reader, place)
    assert (status, err) == (0, "")
    assert len(read.splitlines()) == (3 if reader == "head -3" else 0)
    assert (place / "mine" / "effects.json").is_file()
    assert regkit("eval", "mine", "--json", cwd=place).status == 0
    assert "is finished" in regkit("train", "--resume", "mine", cwd=place).out


@pytest.mark.slow
def test_a_reader_that_stops_reading_does_not_end_pretraining(place: Path) -> None:
    (place / "c.txt").write_text(PROSE, encoding="utf8")
    words = "pretrain --corpus c.txt --encoder encoder --steps 2 --output mine"
    assert piped(words, "true", place) == (0, "", "")
    assert (place / "mine" / "model.safetensors").is_file()


RIGHT = ("--encoder", "encoder", "--data", "data")


@pytest.mark.parametrize("command", ["train", "evaluate", "plugins"])
def test_an_interruption_is_one_sentence_and_status_130(
    place: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    module = {"train": training, "evaluate": evaluating, "plugins": listing}[command]
    monkeypatch.setattr(module, command, interrupt)
    words = {"train": ("train", *RIGHT), "evaluate": ("eval", "run")}.get(command, (command,))
    ran = regkit(*words, cwd=place)
    assert ran.status == 130
    assert ran.err.startswith("regkit: interrupted")
    assert ran.err.count("\n") == 1


def test_with_json_an_error_leaves_standard_output_empty(place: Path) -> None:
    ran = regkit("eval", "run", "--json", "--data", "nowhere", cwd=place)
    is_one_sentence(ran)
    assert ran.out == ""
    assert json.loads(regkit("eval", "run", "--json", cwd=place).out)
