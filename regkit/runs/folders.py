"""Folders: find, check and make the folders of runs."""

import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import IO

from regkit.base.errors import ConfigError, RunError, nearest, short, typed
from regkit.base.files import absolute, follow, point
from regkit.base.hidden import meant
from regkit.runs.lock import LOCK, Say, claim, held
from regkit.runs.manifest import damage
from regkit.runs.settings import Settings

RUNS = Path("runs")
CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
AVERAGE = "average.json"  # of an average of runs: what it was made of
TASKS = "tasks.json"
LOG = "log.jsonl"
FINISHED = "finished.json"
EVIDENCE = "evidence.json"  # of a run of a study: the names in its answers, which it keeps instead of weights
STUDY = "study.toml"  # in the folder of a study, whose runs are in its folder runs/
CHECKPOINT = re.compile(r"[\w-]+-\d+")  # the name of its folder; anything else beside it is the user's
UNSAVED = {LOCK, ENVIRONMENT, TASKS, CONFIG, LOG}  # what there is before the first checkpoint
LATEST = "latest"
AUTO = "auto"  # of --resume: go on with the run in --output, if there is one


def size_of(path: Path) -> int:
    """Count the bytes of a file, or of all files in a folder. A link counts for nothing."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(os.lstat(file).st_size for file in files if file.is_file() and not file.is_symlink())


def check_free(output: Path | None, *, resumable: bool = True) -> None:
    """Raise RunError if a run cannot begin in this folder, or in `runs/` for None.

    The error says how to go on with a run that is there, unless the command cannot (`resumable`). One that has saved nothing
    gives its place to a new one.
    """
    folder = output or RUNS
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # a name that is too long, or a folder that may not be entered
        raise RunError(f"{short(folder)}: {error.strerror}; name another --output.") from None
    above = next(each for each in [folder, *folder.absolute().parents] if os.path.lexists(each))
    if not above.is_dir() and above != output:
        raise RunError(f"{above} is no folder, so no run can begin in {folder}; name another --output.")
    if output and is_run(output) and not (resumable and is_unsaved(output)):
        again = f"go on with it by {typed('--resume', output)}, or " if resumable else ""
        raise RunError(f"{output} is a run already; {again}name another --output.")
    if output and os.path.lexists(output) and not (output.is_dir() and is_unsaved(output)):
        raise RunError(f"{output} exists already; name another --output, or remove it.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise RunError(f"{above} is not writable, so no run can begin in {folder}; name another --output.")


def is_run(folder: Path) -> bool:
    """Whether a run has begun in this folder."""
    return os.path.isfile(folder / CONFIG)  # unlike Path's, it takes a folder that may not be read


def is_unsaved(folder: Path) -> bool:
    """Whether a folder holds nothing, or only what a run leaves that has saved nothing yet."""
    names = {path.name for path in folder.iterdir() if meant(path) != CONFIG}
    return names <= (UNSAVED if LOCK in names else set())


def new_folder(settings: Settings, output: Path | None, say: Say) -> tuple[Path, IO[str]]:
    """Make and lock the folder of a run.

    Its name is made of time and plugins unless `output` says it. The folder is this process's until the lock is closed.
    """
    check_free(output)
    if output is None:
        folder = _make_new(settings.plugins)
        return folder, claim(folder, say)
    output.mkdir(parents=True, exist_ok=True)
    lock = claim(output, say)
    try:
        check_free(output)  # again: whoever held the lock a moment ago may have left a whole run
        if is_run(output):
            _clear(output, say)
    except BaseException:
        lock.close()
        raise
    return output, lock


def _clear(folder: Path, say: Say) -> None:
    """Remove what a run has left that saved nothing. Raises RunError on a disk without locks: it may be at work."""
    if not held(folder):  # by this process
        raise RunError(f"{folder} is a run already, and no lock tells whether it is at work; name another --output.")
    say(f"{folder} holds a run that has saved nothing: this one begins in its place")
    for name in (CONFIG, LOG):
        (folder / name).unlink(missing_ok=True)


def _make_new(plugins: Iterable[str]) -> Path:
    """Make a folder in `runs/` that no other process has, with a number where its name is taken."""
    RUNS.mkdir(exist_ok=True)
    name = "-".join([time.strftime("%Y%m%d-%H%M%S"), *plugins])
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(RUNS / each for each in names if _makes(RUNS / each))


def _makes(folder: Path) -> bool:
    """Make a folder, and say whether this was the process that did: of several, one is."""
    with suppress(FileExistsError):
        folder.mkdir()
        return True
    return False


def note_latest(folder: Path, say: Say) -> None:
    """Point `runs/latest` to the run that is trained now. Where that fails, the run goes on, and says so."""
    try:
        RUNS.mkdir(exist_ok=True)
        point(RUNS / LATEST, folder)
    except OSError as error:
        say(f"{RUNS / LATEST} does not lead to this run: {error.strerror}: {error.filename}")


def forget_latest(folder: Path, before: Path) -> None:
    """Point `runs/latest` back to the run `before`, if there is one, from this folder."""
    link = RUNS / LATEST
    if follow(link).resolve() == folder.resolve():
        link.unlink()
        if is_run(before):
            point(link, before)


def find_run(run: Path | None) -> Path:
    """Find a run to evaluate, the latest for None. Raises RunError if it has no whole best checkpoint."""
    folder = find_folder(run)
    if trouble := damage(best_of(folder)):
        raise RunError(f"{folder / 'best'} is damaged: {trouble}{other_checkpoint(folder)}.")
    return folder


def check_several(runs: Sequence[Path], what: str) -> None:
    """Raise ConfigError where a command that joins runs is given fewer than two, or one of them twice."""
    if len(runs) < 2:
        raise ConfigError(f"{what} needs two runs or more; name their folders.")
    seen: dict[Path, Path] = {}
    for run in runs:
        if (other := seen.setdefault(find_folder(run).resolve(), run)) is not run:
            raise ConfigError(f"{run} is the same run as {other}; name each once.")


def best_of(folder: Path) -> Path:
    """Find the best checkpoint of a run. Raises RunError if there is none, or none any more."""
    best = follow(folder / "best")
    if best.is_dir():
        return best
    if (folder / EVIDENCE).is_file() and not os.path.lexists(folder / "best"):
        raise RunError(
            f"{folder} has no weights: its study kept scores and answers alone; begin one with --keep-weights."
        )
    if os.path.lexists(folder / "best") or (folder / FINISHED).is_file():
        raise RunError(f"{folder / 'best'} leads to no checkpoint{other_checkpoint(folder)}.")
    raise RunError(f"{folder} has no checkpoint yet: training has not reached the end of its first epoch.")


def other_checkpoint(folder: Path) -> str:
    """Say, as the end of a sentence, that the last checkpoint of a run can be used, if it is whole."""
    best, last = (follow(folder / name) for name in ("best", "last"))
    if not last.is_dir() or os.path.realpath(last) == os.path.realpath(best) or damage(last):
        return ""
    return f"; {folder / 'last'} is whole, and `regkit predict` and `regkit.load` read it"


def find_folder(run: Path | None) -> Path:
    """Find the folder of a run that has begun, the latest for None. Raises RunError if there is none."""
    folder = follow(run or RUNS / LATEST)
    if not folder.is_dir():
        if run is None and os.path.lexists(RUNS / LATEST):
            gone = os.path.relpath(follow(RUNS / LATEST).resolve())
            others = [str(path) for path in RUNS.glob("*") if is_run(path)]
            raise RunError(f"runs/latest leads to {gone}, which is gone; name a run. {nearest(gone, others)}")
        if run is None:
            raise RunError("there is no run yet: `regkit train` makes one, and runs/latest points to it.")
        raise RunError(f"there is no run {run}. {_nearest(run)}")
    if (folder / STUDY).is_file() and not is_run(folder):
        raise RunError(
            f"{folder} is a study; name one of its runs, {_one_of(folder / 'runs')}, or compare them: "
            f"`{typed('regkit', 'report', folder)}`."
        )
    if not is_run(folder):
        raise RunError(f"{folder} is not a run: it has no {CONFIG}.")
    return folder


def _nearest(run: Path) -> str:
    """List the runs beside one that is not there; where there are none, those in `runs/`."""
    beside, usual = ([path for path in folder.glob("*") if is_run(path)] for folder in (run.parent, RUNS))
    if beside:
        return nearest(run.name, [path.name for path in beside])
    return nearest(str(RUNS / run.name), map(str, usual))


def _one_of(runs: Path) -> Path:
    """Find a run to name as an example."""
    found = sorted(path for path in runs.iterdir() if is_run(path)) if runs.is_dir() else []
    return found[0] if found else runs / "ROW-SEED"


def check_source(name: str | None) -> None:
    """Raise RunError if an encoder is named by the folder of a run without weights, or of a study."""
    folder = follow(Path(name)) if name else None
    if folder and any((folder / each).is_file() for each in (CONFIG, STUDY)) and not (folder / "config.json").exists():
        best_of(find_folder(folder))


def unfinished(folder: Path) -> list[str]:
    """Say that a run is not finished, if it is not: its best checkpoint may yet be another."""
    return [] if (folder / FINISHED).is_file() else [f"{folder} is not finished: this is its best checkpoint so far"]


def to_resume(resume: str | None, output: Path | None) -> Path | None:
    """Find the folder of the run that `--resume` and `--output` mean; None for a new one."""
    if resume is None:
        return None
    if resume == AUTO:
        if output is None:
            raise ConfigError("--resume auto needs --output: the folder of the run, to begin or to go on with.")
        return output if is_run(output) else None
    if output is not None and absolute(output) != absolute(Path(resume)):
        given = f"{typed('--output', output)}, or {typed('--resume', resume)}"
        raise ConfigError(f"a run goes on in its own folder; leave out {given}.")
    folder = find_folder(Path(resume))
    return folder.parent / folder.readlink() if folder.is_symlink() else folder
