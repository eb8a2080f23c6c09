"""Whatever stops a run - a signal, a kill, a full disk, a damaged checkpoint, a plugin's error - it goes on where it was."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from regkit.runs import checkpoint, manifest
from regkit.runs.log import Log
from tests import forked
from tests.cli.test_bad_input import is_one_sentence
from tests.forked import Forked
from tests.helpers import Ran, regkit, with_stranger, write_encoder, write_tasks
from tests.runs.test_resume import same_run

ARGUMENTS = ["--encoder", "encoder", "--data", "data", "--batch-size", "4", "--steps", "60", "--lr", "0.01"]
ARGUMENTS += ["--save-steps", "7", "-p", "rrobin", "-p", "ema"]

# A shell in the background lets its children ignore SIGINT, and so would pytest and the run below it.
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from regkit.cli import app; app.main()"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder`, `data` and the run `whole`, which was not disturbed."""
    folder = tmp_path_factory.mktemp("place")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    ran = regkit("train", *ARGUMENTS, "--output", "whole", cwd=folder)
    assert ran.status == 0, ran.err
    return folder


def start(place: Path, *more: object) -> Forked:
    return forked.command(["train", *ARGUMENTS, *more], place)


def until(found: Callable[[], object], process: Forked) -> None:
    """Wait for something to be there."""
    while not found() and process.poll() is None:
        time.sleep(0.001)
    assert process.poll() is None, process.communicate()


def finish(place: Path, output: str) -> None:
    """The same command again; the end is that of the run that was not disturbed."""
    ran = regkit("train", *ARGUMENTS, "--output", output, "--resume", "auto", cwd=place)
    assert (ran.status, ran.err) == (0, ""), ran.out
    same_run(place / "whole", place / output)
    assert not list((place / output).glob(".*"))
    assert not list((place / output / "checkpoints").glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(place: Path, number: signal.Signals) -> None:
    output = number.name
    process = start(place, "--output", output)
    until(lambda: (place / output / "checkpoints" / "finetune-7").exists(), process)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number
    step = int((place / output / "last").resolve().name.removeprefix("finetune-"))
    where = f"after step {step} of stage finetune"
    assert err == f"regkit: stopped by {number.name} {where}; to go on: regkit train --resume {output}\n"
    assert 7 <= step < 60
    finish(place, output)


def test_a_second_ctrl_c_stops_at_once() -> None:
    """The handler is gone after the first: the second is an ordinary KeyboardInterrupt."""
    from regkit.runs.interrupts import Interrupts

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it is ignored
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
            assert interrupts.asked is signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_signals_are_noted_until_the_outermost_block_ends() -> None:
    """A worker has one for all of its runs, and each run has a block inside."""
    from regkit.runs.interrupts import Interrupts

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Interrupts() as interrupts:
            with interrupts:
                pass
            signal.raise_signal(signal.SIGTERM)
            assert interrupts.asked is signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_twice_changes_nothing(number: signal.Signals) -> None:
    """torchrun sends several SIGTERM to a process that is about to save; a closed terminal, SIGHUP."""
    from regkit.runs.interrupts import Interrupts

    def stop(number: int, frame: object) -> None:
        raise AssertionError("the step was not finished")

    before = signal.signal(number, stop)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(number)
            signal.raise_signal(number)
            assert interrupts.asked is number
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_that_were_ignored_stay_ignored(number: signal.Signals) -> None:
    """A shell lets its background jobs ignore SIGINT, and `nohup` lets a command ignore SIGHUP."""
    from regkit.runs.interrupts import Interrupts

    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(number)
        assert interrupts.asked is None
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def on_a_terminal(command: Sequence[str], place: Path) -> tuple[int, int]:
    """Start a command in a terminal of its own: the process, and the terminal's other end."""
    process, terminal = pty.fork()
    if not process:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and children inherit that
        os.chdir(place)
        os.execvpe(command[0], command, os.environ | {"OMP_NUM_THREADS": "1"})
    return process, terminal


@pytest.mark.slow
@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_saves_the_run_and_under_nohup_ends_its_lines_alone(place: Path, ignored: bool) -> None:
    output = f"closed-{ignored}"
    run = ["train", *ARGUMENTS, "--output", output]
    program = PROGRAM.replace("import signal;", "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN);")
    process, terminal = on_a_terminal([sys.executable, "-c", program if ignored else PROGRAM, *run], place)
    while not (place / output / "last").exists():  # the first checkpoint: most of the run is still to come
        time.sleep(0.001)
    os.close(terminal)
    _, ended = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(ended) == (0 if ignored else 128 + signal.SIGHUP)
    if ignored:
        same_run(place / "whole", place / output)
    else:
        finish(place, output)


def writes(folder: Path, process: Forked) -> bool:
    """Whether this process is writing a checkpoint."""
    return any((folder / "checkpoints").glob(f".*.{process.pid}.part"))


def kill(place: Path, output: str, found: Callable[[Forked], object]) -> bool:
    """Start the run, or go on with it, and kill it as soon as something is found; whether that came before its end."""
    process = start(place, "--output", output, "--resume", "auto")
    try:
        until(lambda: found(process), process)
    except AssertionError:
        return False
    process.kill()
    process.communicate()
    return True


@pytest.mark.slow
def test_a_killed_run_goes_on_by_the_same_command(place: Path) -> None:
    """Before its first checkpoint, in the middle, and while a checkpoint is being written."""
    folder = place / "killed"
    assert kill(place, "killed", lambda _: (folder / "lock").exists())
    assert kill(place, "killed", lambda _: (folder / "checkpoints" / "finetune-21").exists())
    assert kill(place, "killed", lambda process: writes(folder, process))
    assert list((folder / "checkpoints").glob(".*")), "the kill came too late"
    finish(place, "killed")


@pytest.mark.slow
def test_kills_at_any_moment_some_of_them_while_a_checkpoint_is_written(place: Path) -> None:
    folder, killed = place / "often", 0
    while killed < 3:
        shutil.rmtree(folder, ignore_errors=True)
        for number in range(6):  # of 0.3 to 1 s, so that most kills come before the end
            began, wait = time.monotonic(), 0.08 * ((7 * number + killed) % 11)
            writing = number % 3 == 0
            killed += kill(
                place,
                "often",
                lambda process, writing=writing, began=began, wait=wait: (
                    writes(folder, process) if writing else time.monotonic() - began > wait
                ),
            )
        finish(place, "often")


# Damage


@pytest.fixture
def stopped(place: Path, tmp_path: Path) -> Path:
    """A copy of a run that was interrupted, with two checkpoints beside the best."""
    if not (place / "stopped").exists():
        process = start(place, "--output", "stopped")
        until(lambda: (place / "stopped" / "checkpoints" / "finetune-28").exists(), process)
        process.send_signal(signal.SIGINT)
        process.communicate()
    shutil.copytree(place / "stopped", place / tmp_path.name, symlinks=True)
    return place / tmp_path.name


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


FILES = ["model.safetensors", "training.safetensors", "training.json", "manifest.json"]
SOME = {("model.safetensors", flip), ("training.safetensors", cut)}
MORE = {
    ("training.json", flip),
    ("model.safetensors", Path.unlink),
    ("manifest.json", cut),
    ("manifest.json", Path.unlink),
}


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        pytest.param(file, harm, marks=[] if (file, harm) in SOME else pytest.mark.slow)
        for file in FILES
        for harm in (flip, cut, Path.unlink)
        if (file, harm) in SOME | MORE
    ],
)
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_is_used(
    stopped: Path, place: Path, file: str, harm: Callable[[Path], None]
) -> None:
    last = (stopped / "last").resolve()
    harm(last / file)
    ran = regkit("train", "--resume", stopped.name, cwd=place)
    assert ran.status == 0, ran.err
    (said,) = [line for line in ran.out.splitlines() if " is damaged: " in line]
    what = {flip: f"{file} is not what was written", cut: f"{file} has ", Path.unlink: f"{file} is missing"}[harm]
    if file == "manifest.json" and harm is not Path.unlink:  # a flipped bit of it may be in a digest
        what = ""
    assert said.startswith(f"checkpoint {last.name} is damaged: {what}")
    assert said.endswith("The one before it is used.")
    same_run(place / "whole", stopped)


def test_where_no_checkpoint_is_whole_the_run_is_left_alone(stopped: Path, place: Path) -> None:
    for folder in (stopped / "checkpoints").iterdir():
        cut(folder / "model.safetensors")
    before = (stopped / "log.jsonl").read_bytes()
    ran = regkit("train", "--resume", stopped.name, cwd=place)
    is_one_sentence(ran)
    assert f"no checkpoint of {stopped.name} is whole; remove the folder to begin anew" in ran.err
    assert (stopped / "log.jsonl").read_bytes() == before


def test_a_checkpoint_that_was_moved_away_when_the_run_was_killed_is_found(stopped: Path, place: Path) -> None:
    """A checkpoint of the same step is replaced in two renames; a kill between them leaves it under a hidden name."""
    last = (stopped / "last").resolve()
    last.rename(last.with_name(f".{last.name}.123.old"))
    ran = regkit("train", "--resume", stopped.name, cwd=place)
    assert ran.status == 0, ran.err
    assert f"goes on after step {last.name.removeprefix('finetune-')} of stage finetune" in ran.out
    same_run(place / "whole", stopped)


# Other causes


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_with_the_file_that_it_holds() -> None:
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        Log(Path("/dev/full")).write({"step": 1})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that holds three checkpoints and a bit."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_sentence_and_with_room_it_goes_on(place: Path, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    process = start(place, "--output", small_disk / "run")
    out, err = process.communicate()
    is_one_sentence(Ran(process.returncode, out, err))
    assert "No space left on device" in err
    assert str(small_disk) in err.partition("No space")[0]  # the file, and not only "writing"
    assert err.count("\n") == 1
    whole = [path for path in (small_disk / "run" / "checkpoints").glob("finetune-*") if not manifest.damage(path)]
    assert whole
    assert f"regkit train --resume {small_disk / 'run'}" in err
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    finish(place, str(small_disk / "run"))


@pytest.mark.slow
def test_two_processes_never_write_one_folder(place: Path) -> None:
    process = start(place, "--output", "shared")
    until(lambda: (place / "shared" / "config.toml").exists(), process)
    process.send_signal(signal.SIGSTOP)  # it holds its folder, however long the others take
    for more in (["--resume", "shared"], [*ARGUMENTS, "--output", "shared", "--resume", "auto"]):
        ran = regkit("train", *more, cwd=place)
        is_one_sentence(ran)
        assert f"shared is being written by process {process.pid} on " in ran.err
        assert ran.err.endswith("; wait until it ends.\n")
    process.send_signal(signal.SIGCONT)
    process.communicate()
    same_run(place / "whole", place / "shared")


FAILS = """
from dataclasses import dataclass
from pathlib import Path
from regkit import hookimpl

@dataclass
class Plugin:
    now: int = 0

    @hookimpl(wrapper=True)
    def choose_tasks(self, step):
        self.step = step
        return (yield)

    @hookimpl
    def extra_losses(self, output):
        if self.step == 40 and not Path("mended").exists():
            raise KeyError("no such word")
        return {"bad": output.sum() * float("nan")} if self.step in (20, 21) else {}
"""


def test_a_plugin_that_raises_is_named_and_the_run_is_saved_first(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost: it goes on at that very step once the plugin is mended. Two steps before are not finite, and skipped."""
    with_stranger(monkeypatch, tmp_path / "strangers", x=FAILS)
    arguments = ["--encoder", place / "encoder", "--data", place / "data", "--batch-size", 4, "--steps", 50, "-p", "x"]
    ran = regkit("train", *arguments, "--output", "run", cwd=tmp_path)
    is_one_sentence(ran)
    assert "plugin 'x' failed in extra_losses at stage finetune, step 40, " in ran.err
    assert "KeyError: 'no such word' (" in ran.err
    assert "What was done until step 40 of stage finetune is saved; to go on: regkit train --resume run\n" in ran.err
    (said, _) = [line for line in ran.out.splitlines() if "skipped" in line]
    assert said.startswith("step 21 is skipped: the loss of 'bad' in task '")
    assert "' (plugin 'x') is not finite; rows " in said
    (tmp_path / "mended").touch()
    ran = regkit("train", "--resume", "run", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert "goes on after step 40 of stage finetune" in ran.out
    assert "warning: 2 steps were skipped" in ran.out
    assert regkit("train", *arguments, "--output", "other", cwd=tmp_path).status == 0
    same_run(tmp_path / "other", tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    skipped = [record for record in records if "skipped" in record]
    assert [record["step"] for record in skipped] == [20, 21]
    for record in skipped:
        (suspect,) = record["skipped"]
        assert (suspect["what"], suspect["term"], suspect["plugins"], len(suspect["rows"])) == ("loss", "bad", ["x"], 4)


def test_too_many_skipped_steps_leave_a_run_that_is_saved_without_a_nan(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path / "strangers", x=FAILS.replace("in (20, 21)", ">= 20"))
    arguments = ["--encoder", place / "encoder", "--data", place / "data", "--batch-size", 4, "--steps", 50, "-p", "x"]
    ran = regkit("train", *arguments, "--output", "my run", cwd=tmp_path)
    is_one_sentence(ran)
    assert "no finite loss and gradient in 5 steps in a row" in ran.err
    assert "until step 25 of stage finetune is saved; to go on: regkit train --resume 'my run'\n" in ran.err
    last = tmp_path / "my run" / "last"
    assert manifest.damage(last) == ""
    assert "nan" not in json.dumps(checkpoint.load_training(last), default=lambda tensor: tensor.tolist()).lower()
