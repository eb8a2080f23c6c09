"""What a finished run keeps, what `regkit clean` frees, and that a kill in between loses nothing that is needed."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from regkit.cli import freeing
from regkit.runs import disk, manifest
from regkit.runs.disk import Superfluous
from regkit.runs.listing import Run
from regkit.runs.lock import claim
from tests.cli.test_bad_input import is_one_sentence
from tests.helpers import Ran, regkit, write_encoder, write_tasks

ARGUMENTS = ["--encoder", "encoder", "--data", "data", "--tasks", "mood", "--batch-size", 8, "--epochs", 3, "--keep", 3]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished runs `lean` and `kept`, of which the second has all of its state."""
    folder = tmp_path_factory.mktemp("disk")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    for name, more in {"lean": [], "kept": ["--keep-state"]}.items():
        ran = regkit("train", *ARGUMENTS, *more, "--output", name, cwd=folder)
        assert ran.status == 0, ran.err
    return folder


def states(run: Path) -> list[str]:
    """The checkpoints that have training state."""
    return sorted(path.parent.name for path in (run / "checkpoints").glob("*/training.safetensors"))


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def whole(run: Path) -> bool:
    """Whether the weights of the best and of the last checkpoint are as they were written."""
    return not any(manifest.damage(run / name) for name in ("best", "last"))


def copy(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder, symlinks=True)
    return folder


def test_a_finished_run_has_training_state_in_its_last_checkpoint_alone(place: Path) -> None:
    assert checkpoints(place / "lean") == checkpoints(place / "kept") == ["finetune-3", "finetune-6", "finetune-9"]
    assert states(place / "lean") == ["finetune-9"]
    assert states(place / "kept") == ["finetune-3", "finetune-6", "finetune-9"]
    assert not any(manifest.damage(path) for path in (place / "lean" / "checkpoints").iterdir())
    ran = regkit("eval", "lean", "--json", cwd=place)
    assert json.loads(ran.out) == json.loads(regkit("eval", "kept", "--json", cwd=place).out)
    assert "lean is finished" in regkit("train", "--resume", "lean", cwd=place).out


def test_clean_says_what_goes_and_frees_it_only_if_the_user_agrees(place: Path, tmp_path: Path) -> None:
    run = copy(place / "kept", tmp_path / "kept")
    before = sum(path.stat().st_size for path in run.rglob("*") if path.is_file() and not path.is_symlink())
    ran = regkit("clean", "kept", cwd=tmp_path)
    named = {(run / name).resolve().name for name in ("best", "last")}
    assert "training state of finetune-" in ran.out
    assert ran.out.endswith("regkit clean kept --yes\n")
    assert states(run) == ["finetune-3", "finetune-6", "finetune-9"]
    size = json.loads(regkit("clean", "kept", "--json", cwd=tmp_path).out)[0]["bytes"]
    assert "freed " in regkit("clean", "kept", "--yes", cwd=tmp_path).out
    after = sum(path.stat().st_size for path in run.rglob("*") if path.is_file() and not path.is_symlink())
    assert states(run) == []
    assert set(checkpoints(run)) == named
    assert abs(before - after - size) < 2000  # the manifests have become shorter
    assert whole(run)
    assert regkit("eval", "kept", cwd=tmp_path).status == 0
    assert regkit("clean", "kept", "--yes", cwd=tmp_path).out == "kept: nothing to free\n"


def test_two_that_clean_at_once_both_end_well(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(copy(place / "kept", tmp_path / "kept"))
    planned = freeing.plan(run)
    first, second = freeing.free(planned), freeing.free(planned)
    assert (first.freed, first.size, second.size) == (True, planned.size, 0)
    assert whole(run.folder)

    def gone(folder: Path) -> Superfluous:
        raise FileNotFoundError(2, "No such file or directory", "training.safetensors")

    monkeypatch.setattr(freeing, "superfluous", gone)
    assert freeing.plan(run).reason == "another process removes files of it at this moment"


def test_clean_leaves_alone_what_is_not_finished_runs_now_or_is_damaged(place: Path, tmp_path: Path) -> None:
    stopped = copy(place / "kept", tmp_path / "stopped")
    (stopped / "finished.json").unlink()
    running = copy(place / "kept", tmp_path / "running")
    damaged = copy(place / "kept", tmp_path / "damaged")
    with (damaged / "best" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    other = copy(place / "kept", tmp_path / "other")
    (other / "checkpoints" / "mine").mkdir()
    with claim(running, print):
        ran = regkit("clean", ".", "--yes", cwd=tmp_path)
    assert "stopped: stopped, so all of it stays" in ran.out
    assert "running: running, so all of it stays" in ran.out
    assert "damaged/best is damaged: model.safetensors has" in ran.out
    for run in (stopped, running, damaged):
        assert states(run) == ["finetune-3", "finetune-6", "finetune-9"], run
    assert states(other) == []
    assert (other / "checkpoints" / "mine").is_dir()


class Killed(BaseException):
    """Ends everything at once, as a kill does."""


def test_a_kill_at_any_moment_of_cleaning_leaves_the_best_and_the_last_whole(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that changes the disk is the last one once; cleaning again does the rest."""
    done, ended = 0, False
    while not ended:
        run = copy(place / "kept", tmp_path / f"run{done}")
        with monkeypatch.context() as patch:
            kill_after(patch, done)
            try:
                disk.superfluous(run).free()
                ended = True
            except Killed:
                pass
        assert whole(run), done
        named = [path for path in (run / "checkpoints").iterdir() if not path.name.startswith(".")]
        assert not any(manifest.damage(path) for path in named), done
        disk.superfluous(run).free()
        assert states(run) == []
        assert len(checkpoints(run)) == len({(run / name).resolve() for name in ("best", "last")})
        shutil.rmtree(run)
        done += 1
    assert done > 10


def kill_after(patch: pytest.MonkeyPatch, calls: int) -> None:
    """Let so many calls change the disk, and end at the next."""
    left = calls

    def counted(call: Any) -> Any:
        def run(*given: Any, **more: Any) -> Any:
            nonlocal left
            if not left:
                raise Killed
            left -= 1
            return call(*given, **more)

        return run

    for name in ("unlink", "rename", "replace", "rmdir"):
        patch.setattr(os, name, counted(getattr(os, name)))


def test_a_run_killed_before_it_could_clean_up_is_finished_all_the_same(place: Path, tmp_path: Path) -> None:
    run = copy(place / "kept", tmp_path / "killed")
    assert "killed is finished" in regkit("train", "--resume", "killed", cwd=tmp_path).out
    assert states(run) == ["finetune-3", "finetune-6", "finetune-9"]
    disk.older_states(run).free()
    assert states(run) == ["finetune-9"]


def test_a_finished_run_with_more_steps_is_refused_as_before(place: Path) -> None:
    ran = regkit("train", "--resume", "lean", "--epochs", 5, cwd=place)
    is_one_sentence(ran)
    assert "lean has epochs = 3, not 5: its learning rate falls to 0 at that end" in ran.err


def test_nothing_outside_a_runs_folder_is_removed(place: Path, tmp_path: Path) -> None:
    run = copy(place / "kept", tmp_path / "linked")
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    ran: Ran = regkit("clean", "linked", "--yes", cwd=tmp_path)
    assert ran.status == 0
    assert len(list((tmp_path / "elsewhere").glob("*/training.safetensors"))) == 3
