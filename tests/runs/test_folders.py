"""Folders of runs: each process its own, on disks without links, locks or leave to write, and wherever `runs` leads."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from regkit.base.errors import RunError
from regkit.runs.folders import CONFIG, LOG, best_of, check_source, find_folder, find_run
from tests.helpers import Ran, regkit

NAMED_ALIKE = """
import sys, time
from pathlib import Path
from regkit.runs import folders
from regkit.runs.settings import Settings

folders.time.strftime = lambda form: "20260101-000000"
print("ready", flush=True)
sys.stdin.readline()
made = [folders.new_folder(Settings(), None, print) for _ in range(20)]
print(*[folder.name for folder, lock in made], flush=True)
sys.stdin.readline()  # holds its locks
"""


def train(place: Path, *more: object, cwd: Path) -> Ran:
    return regkit("train", "--encoder", place / "encoder", "--data", place / "data", "--steps", 1, *more, cwd=cwd)


def evaluates(run: Path | str, cwd: Path) -> bool:
    return regkit("eval", run, "--json", cwd=cwd).status == 0


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk have no symbolic links, as a USB stick, or a drive that is mounted over a network."""

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)


def test_processes_that_begin_in_the_same_second_have_a_folder_each(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", NAMED_ALIKE], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    found = []
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate("\n")
        found += out.split()
    assert len(found) == 60
    assert set(found) == {"20260101-000000", *(f"20260101-000000-{number}" for number in range(2, 61))}


@pytest.mark.parametrize("harm", [Path.touch, lambda path: path.symlink_to("nowhere")])
def test_a_run_elsewhere_does_not_need_the_folder_runs(place: Path, tmp_path: Path, harm: object) -> None:
    harm(tmp_path / "runs")  # type: ignore[operator]
    ran = train(place, "--output", "mine", cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert "runs/latest does not lead to this run: File exists: runs\n" in ran.out
    assert evaluates("mine", tmp_path)


@pytest.mark.parametrize("harm", [Path.touch, Path.mkdir])
def test_what_else_is_called_latest_is_left_alone(place: Path, tmp_path: Path, harm: object) -> None:
    (tmp_path / "runs").mkdir()
    harm(tmp_path / "runs" / "latest")  # type: ignore[operator]
    ran = train(place, cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert "runs/latest does not lead to this run: it is no link; move it away: runs/latest\n" in ran.out
    assert not (tmp_path / "runs" / "latest").is_symlink()
    assert not list((tmp_path / "runs").glob(".*"))


def test_latest_leads_to_the_run_where_runs_is_itself_a_link(place: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "runs").symlink_to("../far/away")
    for output in ([], ["--output", "mine"]):
        assert train(place, *output, cwd=tmp_path / "here").status == 0
        assert evaluates("runs/latest", tmp_path / "here")
    assert (tmp_path / "far" / "away" / "latest").resolve() == tmp_path / "here" / "mine"


BREAKS = """
from dataclasses import dataclass
from regkit import hookimpl


@dataclass
class Breaks:
    updates: int = 0

    @hookimpl
    def before_step(self):
        assert self.updates, "as it was told"
        self.updates -= 1
"""


@pytest.mark.parametrize("before", [None, "earlier"])
@pytest.mark.parametrize("output", [[], ["--output", "mine"]])
def test_a_run_that_fails_before_its_first_update_leaves_nothing(
    place: Path, tmp_path: Path, output: list[str], before: str | None
) -> None:
    (tmp_path / "breaks.py").write_text(BREAKS, encoding="utf8")
    if before:
        assert train(place, "--output", before, cwd=tmp_path).status == 0
    there = sorted(tmp_path.rglob("*"))
    ran = train(place, *output, "-p", "./breaks.py", cwd=tmp_path)
    assert ran.status == 2
    assert "plugin 'breaks' failed in before_step at stage finetune, step 0" in ran.err
    assert set(tmp_path.rglob("*")) - set(there) <= {tmp_path / "runs"}
    assert (tmp_path / "runs" / "latest").is_symlink() == bool(before)
    if before:
        assert (tmp_path / "runs" / "latest").resolve() == tmp_path / before
    assert train(place, *output, cwd=tmp_path).status == 0  # the same place is free


def test_what_somebody_put_beside_a_run_that_fails_at_once_stays(place: Path, tmp_path: Path) -> None:
    puts = BREAKS.replace("        assert", "        open('mine/notes.txt', 'w').close()\n        assert")
    (tmp_path / "breaks.py").write_text(puts, encoding="utf8")
    assert train(place, "--output", "mine", "-p", "./breaks.py", cwd=tmp_path).status == 2
    assert (tmp_path / "mine" / "notes.txt").is_file()


def test_a_run_that_fails_after_its_first_update_stays(place: Path, tmp_path: Path) -> None:
    (tmp_path / "breaks.py").write_text(BREAKS, encoding="utf8")
    ran = train(place, "--steps", 3, "--output", "mine", "-p", "./breaks.py:Breaks:updates=1", cwd=tmp_path)
    assert ran.status == 2
    assert (tmp_path / "mine" / CONFIG).is_file()
    assert (tmp_path / "runs" / "latest").resolve() == tmp_path / "mine"


STOPS = """
import signal
from dataclasses import dataclass
from regkit import hookimpl


@dataclass
class Stops:
    @hookimpl
    def evaluated(self, step):
        if not step:
            signal.raise_signal(signal.SIGTERM)
"""


def test_a_run_that_is_stopped_before_its_first_update_stays_and_goes_on(place: Path, tmp_path: Path) -> None:
    (tmp_path / "stops.py").write_text(STOPS, encoding="utf8")
    ran = train(place, "--score-first", "--output", "mine", "-p", "./stops.py", cwd=tmp_path)
    assert (ran.status, "stopped by SIGTERM after step 0 of stage finetune; " in ran.err) == (143, True)
    assert (tmp_path / "mine" / CONFIG).is_file()
    assert (tmp_path / "runs" / "latest").resolve() == tmp_path / "mine"


LATE = BREAKS.replace("before_step", "after_step")  # in the middle of a step, so that nothing can be saved


def test_a_run_that_has_saved_nothing_gives_its_place_to_the_same_command(place: Path, tmp_path: Path) -> None:
    (tmp_path / "breaks.py").write_text(LATE, encoding="utf8")
    words = ["--steps", 3, "--output", "mine", "-p", "./breaks.py:Breaks:updates=1"]
    ran = train(place, *words, cwd=tmp_path)
    assert ran.status == 2
    assert ran.err.endswith(" Nothing was saved yet, so the same command begins anew.\n")
    assert (tmp_path / "mine" / LOG).is_file()
    (tmp_path / "mine" / "notes.txt").touch()  # somebody else's
    assert "mine is a run already; go on with it by --resume mine, or" in train(place, *words, cwd=tmp_path).err
    (tmp_path / "mine" / "notes.txt").unlink()
    (tmp_path / "breaks.py").write_text(LATE.replace("assert", "return; assert"), encoding="utf8")  # it is mended
    ran = train(place, *words, cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert "mine holds a run that has saved nothing: this one begins in its place\n" in ran.out
    steps = [
        json.loads(line)["step"] for line in (tmp_path / "mine" / LOG).read_text().splitlines() if "losses" in line
    ]
    assert steps == [0, 1, 2]
    ran = train(place, *words, cwd=tmp_path)
    assert (ran.status, "mine is a run already" in ran.err) == (2, True)


def test_a_run_that_has_saved_nothing_stays_where_no_lock_tells_whether_it_is_at_work(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaks.py").write_text(LATE, encoding="utf8")
    assert (
        train(place, "--steps", 3, "--output", "mine", "-p", "./breaks.py:Breaks:updates=1", cwd=tmp_path).status == 2
    )
    log = (tmp_path / "mine" / LOG).read_bytes()
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    ran = train(place, "--output", "mine", cwd=tmp_path)
    assert ran.status == 2
    assert "mine is a run already, and no lock tells whether it is at work; name another --output." in ran.err
    assert (tmp_path / "mine" / LOG).read_bytes() == log


@pytest.mark.usefixtures("without_links")
def test_without_links_a_run_that_fails_at_once_leads_back(place: Path, tmp_path: Path) -> None:
    (tmp_path / "breaks.py").write_text(BREAKS, encoding="utf8")
    assert train(place, "--output", "runs/one", cwd=tmp_path).status == 0
    assert train(place, "-p", "./breaks.py", cwd=tmp_path).status == 2
    assert (tmp_path / "runs" / "latest").read_text() == "leads to one\n"


@pytest.mark.usefixtures("without_links")
def test_without_links_everything_that_reads_a_run_finds_it(place: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):  # the second replaces `latest`
        ran = train(place, "--output", f"runs/{name}", cwd=tmp_path)
        assert (ran.status, ran.err) == (0, "")
        assert (tmp_path / "runs" / "latest").read_text() == f"leads to {name}\n"
        assert (tmp_path / "runs" / name / "best").read_text() == "leads to checkpoints/finetune-1\n"
    assert evaluates("runs/latest", tmp_path)
    assert regkit("eval", "--json", cwd=tmp_path).status == 0
    assert "runs/two is finished" in regkit("train", "--resume", "runs/latest", cwd=tmp_path).out
    again = regkit("train", "runs/latest/config.toml", "--encoder", "runs/latest/best", "--output", "x", cwd=tmp_path)
    assert (again.status, again.err) == (0, "")
    assert f"encoder: {tmp_path}/runs/two/checkpoints/finetune-1, " in again.out


def test_a_disk_without_locks_is_trained_on_and_said(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = "mine cannot be locked (No locks available): nothing keeps a second process from writing there\n"
    ran = train(place, "--output", "mine", cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")
    assert said in ran.out
    assert said in regkit("train", "--resume", "mine", cwd=tmp_path).out


def test_a_lock_that_cannot_be_written_is_one_sentence(place: Path, tmp_path: Path) -> None:
    assert train(place, "--output", "mine", cwd=tmp_path).status == 0
    (tmp_path / "mine" / "lock").unlink()
    (tmp_path / "mine" / "lock").mkdir()
    ran = regkit("train", "--resume", "mine", cwd=tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "regkit: mine/lock cannot be written: Is a directory; a run writes in its own folder.\n"


def test_a_folder_that_is_not_writable_is_refused_before_anything_is_read(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    ran = train(place, "--output", "a/b", cwd=tmp_path)
    assert (ran.status, ran.out) == (2, "")
    said = f"{tmp_path} is not writable, so no run can begin in a/b; name another --output."
    assert ran.err == f"regkit: {said}\n"
    (tmp_path / "runs").mkdir()
    assert train(place, cwd=tmp_path).status == 0


def test_a_study_and_a_run_without_weights_are_said_and_not_called_damaged(tmp_path: Path) -> None:
    run = tmp_path / "study" / "runs" / "plain-0"
    run.mkdir(parents=True)
    for file in (run / CONFIG, run / "finished.json", run / "evidence.json", tmp_path / "study" / "study.toml"):
        file.touch()
    for find in (best_of, lambda folder: check_source(str(folder)), lambda folder: find_run(folder)):
        with pytest.raises(RunError, match=r"plain-0 has no weights: .* --keep-weights"):
            find(run)
    for find in (find_folder, lambda folder: check_source(str(folder))):
        with pytest.raises(RunError, match=rf"study is a study; name one of its runs, {run}, .* `regkit report "):
            find(tmp_path / "study")
