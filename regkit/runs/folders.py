"""Runs: the folders that runs leave behind - where they are, and how one is read again for evaluation."""

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from regkit.data.declare import choose, find_tasks
from regkit.data.load import load_task
from regkit.errors import ConfigError, RunError, nearest
from regkit.experiment import check_vocabulary, find_device
from regkit.files import read_json
from regkit.model import MultitaskModel, load_encoder
from regkit.randomness import Streams
from regkit.runs import checkpoint
from regkit.runs.lock import LOCK, claim
from regkit.settings import Settings
from regkit.tasks import Split, Task
from regkit.tokenizer import Tokenizer

RUNS = Path("runs")
CONFIG = "config.toml"
LATEST = "latest"


def check_free(folder: Path) -> None:
    """RunError where something is there already, or where no folder can be made."""
    for path in (folder, RUNS):
        above = next(each for each in [path.absolute(), *path.absolute().parents] if each.exists())
        if not above.is_dir() and above != folder.absolute():
            raise RunError(f"{above} is a file, so {path} cannot be made.")
    if begun(folder):
        raise RunError(f"{folder} is a run already; go on with it by --resume {folder}, or name another --output.")
    if folder.exists() and (not folder.is_dir() or any(map(_counts, folder.iterdir()))):
        raise RunError(f"{folder} exists already; name another --output, or remove it.")


def begun(folder: Path) -> bool:
    """Whether a run has been begun here."""
    return (folder / CONFIG).is_file()


def _counts(path: Path) -> bool:
    """Whether a file makes a folder no place for a run; what one left that was killed before it began does not."""
    return path.name != LOCK and not re.fullmatch(rf"\.{re.escape(CONFIG)}\.\d+", path.name)


def new_folder(settings: Settings, output: Path | None) -> tuple[Path, IO[str]]:
    """Make the folder of a run, named by time and plugins where the user does not say, and point `runs/latest` to it.

    The folder is this process's until the second answer is closed.
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
    """Let `runs/latest` point to the run that is trained now."""
    RUNS.mkdir(exist_ok=True)
    point(RUNS / LATEST, folder)


def point(link: Path, folder: Path) -> None:
    """Let `link` point to `folder` from now on, at no time to nothing."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(folder, link.parent))
    fresh.replace(link)


def write(path: Path, text: str) -> None:
    """The whole file, or what was there before."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def declared(tasks: Iterable[Task]) -> dict[str, list[str | None]]:
    """What a head's numbers mean: each task's objective and pair mode. Their shapes alone would not tell."""
    return {task.name: [repr(task.objective), task.pair_mode] for task in tasks}


def find_run(run: Path | None) -> Path:
    """The run's folder, or the latest one's for None; RunError where there is none, or nothing to evaluate in it."""
    folder = find_folder(run)
    if not (folder / "best").is_dir():
        raise RunError(f"{folder} has no checkpoint yet: training has not reached the end of its first epoch.")
    if trouble := checkpoint.damage(folder / "best"):
        raise RunError(f"{folder / 'best'} is damaged: {trouble}.")
    return folder


def find_folder(run: Path | None) -> Path:
    """The folder of a run that was begun, or the latest one's for None; RunError where there is none."""
    folder = run or RUNS / LATEST
    if not folder.is_dir():
        if run is None:
            raise RunError("there is no run yet: `regkit train` makes one, and runs/latest points to it.")
        others = [path.name for path in run.parent.iterdir() if path.is_dir()] if run.parent.is_dir() else []
        raise RunError(f"there is no run {run}. {nearest(run.name, others)}")
    if not begun(folder):
        raise RunError(f"{folder} is not a run: it has no {CONFIG}.")
    return folder


@dataclass
class Finished:
    """A run read back for evaluation: its best checkpoint, and the tasks of one split."""

    model: MultitaskModel
    tasks: list[Task]
    columns: dict[str, tuple[str, str]]  # by task: what prediction files call the example and its label
    settings: Settings


def load_run(folder: Path, split: Split, *, data: Path | None = None, device: str = "auto") -> Finished:
    """The run's best model with a split of its own data, or of other data with the same tasks."""
    settings = Settings.read(folder / CONFIG)
    if not settings.finetune:
        raise RunError(f"{folder} was pretrained, and has no task to score; its dev scores are in scores.json.")
    found = find_tasks(data or settings.data)
    trained = settings.tasks or list(choose(found, None))
    specs = {name: found[name] for name in trained if name in found}
    if not specs:
        raise ConfigError(f"{data or settings.data} has none of the run's tasks: {', '.join(trained)}.")
    best, where = folder / "best", find_device(device)
    tokenizer, encoder = Tokenizer.load(best), load_encoder(best)
    check_vocabulary(best, tokenizer, encoder)
    longest = min(settings.max_length or encoder.longest, encoder.longest)
    loaded = {name: load_task(name, spec, tokenizer, longest, splits=[split]) for name, spec in specs.items()}
    tasks = [task for task in loaded.values() if split in task.splits]
    if not tasks:
        raise ConfigError(f"none of the tasks {', '.join(specs)} has a {split} split.")
    model = MultitaskModel(encoder, tasks, Streams(0)).to(where)
    checkpoint.load_heads(best, model.heads)
    _check_declared(folder, tasks)
    columns = {name: (spec.id or "row", spec.label) for name, spec in specs.items()}
    return Finished(model, tasks, columns, settings)


def _check_declared(folder: Path, tasks: Iterable[Task]) -> None:
    """RunError where a task is not what the run was trained on."""
    path = folder / "tasks.json"
    try:
        found = read_json(path)
        trained = {name: (found[name][0], found[name][1]) for name in declared(tasks)}
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from None
    except (LookupError, TypeError):
        raise RunError(f"{path} is not what a run writes.") from None
    for name, found in declared(tasks).items():
        if found != list(trained[name]):
            raise RunError(f"{folder} was trained with task '{name}' as {trained[name][0]}, not {found[0]}.")
