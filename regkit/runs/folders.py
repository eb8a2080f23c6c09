"""Folders: find, check and make the folders of runs."""

import re
import time
from pathlib import Path
from typing import IO

from regkit.base.errors import ConfigError, RunError, nearest
from regkit.base.files import absolute, point
from regkit.runs.lock import LOCK, claim
from regkit.runs.settings import Settings

RUNS = Path("runs")
CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
TASKS = "tasks.json"
AT_START = {LOCK, ENVIRONMENT, TASKS}  # written before config.toml: with that, a run has begun
LATEST = "latest"
AUTO = "auto"  # of --resume: go on with the run in --output, if there is one


def check_free(folder: Path) -> None:
    """Raise RunError if a run cannot begin in this folder: something is there, or it cannot be made."""
    for path in (folder, RUNS):
        above = next(each for each in [path.absolute(), *path.absolute().parents] if each.exists())
        if not above.is_dir() and above != folder.absolute():
            raise RunError(f"{above} is a file, so {path} cannot be made.")
    if is_run(folder):
        raise RunError(f"{folder} is a run already; go on with it by --resume {folder}, or name another --output.")
    if folder.exists() and (not folder.is_dir() or _in_use(folder)):
        raise RunError(f"{folder} exists already; name another --output, or remove it.")


def is_run(folder: Path) -> bool:
    """Whether a run has begun in this folder."""
    return (folder / CONFIG).is_file()


def _in_use(folder: Path) -> bool:
    """Whether a folder holds anything but what a run leaves that was killed at its very start."""
    names = {path.name for path in folder.iterdir() if not re.fullmatch(rf"\.{re.escape(CONFIG)}\.\d+", path.name)}
    return not names <= (AT_START if LOCK in names else set())


def new_folder(settings: Settings, output: Path | None) -> tuple[Path, IO[str]]:
    """Make and lock the folder of a run, and point `runs/latest` to it.

    Its name is made of time and plugins unless `output` says it. The folder is this process's until the lock is closed.
    """
    name = "-".join([time.strftime("%Y%m%d-%H%M%S"), *settings.plugins])
    folder = output or next(
        path for n in range(1, 1000) if not (path := RUNS / (name if n == 1 else f"{name}-{n}")).exists()
    )
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = claim(folder)
    try:
        check_free(folder)  # again: whoever held the lock a moment ago may have left a whole run
        note_latest(folder)
    except BaseException:
        lock.close()
        raise
    return folder, lock


def note_latest(folder: Path) -> None:
    """Point `runs/latest` to the run that is trained now."""
    RUNS.mkdir(exist_ok=True)
    point(RUNS / LATEST, folder)


def find_run(run: Path | None) -> Path:
    """Find a run to evaluate, the latest for None. Raises RunError if it has no whole best checkpoint."""
    folder = find_folder(run)
    if not (folder / "best").is_dir():
        raise RunError(f"{folder} has no checkpoint yet: training has not reached the end of its first epoch.")
    from regkit.runs import checkpoint  # which imports torch

    if trouble := checkpoint.damage(folder / "best"):
        raise RunError(f"{folder / 'best'} is damaged: {trouble}.")
    return folder


def find_folder(run: Path | None) -> Path:
    """Find the folder of a run that has begun, the latest for None. Raises RunError if there is none."""
    folder = run or RUNS / LATEST
    if not folder.is_dir():
        if run is None:
            raise RunError("there is no run yet: `regkit train` makes one, and runs/latest points to it.")
        others = [path.name for path in run.parent.iterdir() if is_run(path)] if run.parent.is_dir() else []
        raise RunError(f"there is no run {run}. {nearest(run.name, others)}")
    if not is_run(folder):
        raise RunError(f"{folder} is not a run: it has no {CONFIG}.")
    return folder


def to_resume(resume: str | None, output: Path | None) -> Path | None:
    """Find the folder of the run that `--resume` and `--output` mean; None for a new one."""
    if resume is None:
        return None
    if resume == AUTO:
        if output is None:
            raise ConfigError("--resume auto needs --output: the folder of the run, to begin or to go on with.")
        return output if is_run(output) else None
    if output is not None and absolute(output) != absolute(Path(resume)):
        raise ConfigError(f"a run goes on in its own folder; leave out --output {output}, or --resume {resume}.")
    folder = find_folder(Path(resume))
    return folder.parent / folder.readlink() if folder.is_symlink() else folder
