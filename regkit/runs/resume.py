"""Resume: go on with a run - check that it is the same run, and build it as it stood."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regkit.base.errors import ConfigError, RunError, typed
from regkit.data.find import choose, find_tasks
from regkit.distributed.launch import find_device
from regkit.distributed.processes import ALONE, Processes
from regkit.hooks import catalog, option_values
from regkit.runs.experiment import Experiment
from regkit.runs.folders import CONFIG
from regkit.runs.resumable import Resumable
from regkit.runs.settings import Settings
from regkit.runs.shared import Shared
from regkit.runs.trackers import is_tracker
from regkit.tasks.objectives import KINDS, Objective, described
from regkit.tasks.task import Task

# May differ: none of them changes what is learned, but for which values dropout sets to 0.
FREE = {"data", "device", "group", "keep", "keep_state", "save_steps", "save_minutes", "micro_batch_tokens", "memory"}
# Left out, the run keeps what it found.
FOUND = {"pooling", "text", "label", "labels", "micro_batch_tokens", "precision", "cuda_graphs"}
OPEN: Sequence[object] = (None, {}, "auto")  # the values of what is left out


def settings_of(folder: Path) -> Settings:
    """Read the settings of a run. What an older one does not note is as it was in its version."""
    found = Settings.read(folder / CONFIG)
    return found if found.cuda_graphs is not None else found.model_copy(update={"cuda_graphs": False})


def same(folder: Path, ran: Settings, given: Settings) -> Settings:
    """Choose the settings to go on with.

    They are the run's, with given ones that change no result, and the given trackers. ConfigError names the first of
    the others that differs.
    """
    theirs, ours = (_plain(each, folder) for each in (ran, given))
    for name in theirs:
        if name in FREE or theirs[name] == ours[name] or (name in FOUND and ours[name] in OPEN):
            continue
        where, old, new = _difference(name, theirs[name], ours[name])
        advice = f"begin a new one; {typed('--encoder', folder)} builds on this one"
        reason = (
            "its learning rate falls to 0 at that end" if name in ("epochs", "steps") else "a run goes on as it began"
        )
        raise ConfigError(f"{folder} has {where} = {old}, not {new}: {reason}; leave the option out, or {advice}.")
    free = {name: getattr(given, name) for name in (*FREE, "plugins")}
    return ran.model_copy(update={name: each for name, each in free.items() if name not in FOUND or each})


def check_data(folder: Path, ran: Settings, given: Settings) -> None:
    """Raise RunError if a finished run is given other data than its own, which would not be read."""
    ours, theirs = given.data, ran.data
    if ours is not None and ours != theirs and (theirs is None or ours.resolve() != theirs.resolve()):
        raise RunError(
            f"{folder} is finished, and was trained on {theirs or 'the data of the demo'}, not on {ours}; leave the data "
            f"out, or begin a new run, which {typed('--encoder', folder)} builds on this one."
        )


def _plain(settings: Settings, run: Path) -> dict[str, Any]:
    """Turn settings into values that can be compared: tasks by name, options as the plugins have them.

    Plugins that only follow a run are left out: they change no result.
    """
    found: dict[str, Any] = settings.model_dump(mode="json")
    found["tasks"] = settings.tasks or list(choose(find_tasks(settings.data, settings.given), None))
    found["plugins"] = [
        [name, option_values.chosen(name, catalog.make(name, given), given)]
        for name, given in settings.plugins.items()
        if not is_tracker(name, run)
    ]
    return found


def _difference(name: str, old: Any, new: Any) -> tuple[str, Any, Any]:
    """Find where two settings differ and what is there; of plugins, the first option."""
    if name != "plugins":
        return name, old, new
    if [each for each, _ in old] != [each for each, _ in new]:
        old, new = (", ".join(each for each, _ in side) or "none" for side in (old, new))
        return name, old, new
    plugin, ours, theirs = next(
        (each[0], each[1], other[1]) for each, other in zip(old, new, strict=True) if each != other
    )
    option = next(option for option in ours | theirs if ours.get(option) != theirs.get(option))
    old, new = (side.get(option, "its default") for side in (ours, theirs))
    return f"{plugin}:{option}", old, new


def build(
    resumable: Resumable, settings: Settings, processes: Processes = ALONE, shared: Shared | None = None
) -> Experiment:
    """Build the run as it stood at its checkpoint; the encoder that it began with is not needed."""
    if resumable.checkpoint is None:
        return Experiment.build(settings, processes, shared)
    settings = settings.model_copy(update={"encoder": str(resumable.checkpoint.resolve())})
    if settings.precision == "auto" and find_device(settings.device).type != "cuda":  # older runs noted no more
        settings = settings.model_copy(update={"precision": "fp32"})
    experiment = Experiment.build(settings, processes, begun=resumable.checkpoint)
    experiment.heads = {}
    experiment.trainer.state.load(resumable.training)
    if settings.memory != resumable.records.memory:
        experiment.trainer.state.position.micro_batch_tokens = None  # what was found to fit in another bound
    for name, digest in fingerprints(experiment.tasks).items():
        if resumable.records.data.get(name) != digest:
            raise RunError(
                f"{resumable.folder} was trained on other examples of task '{name}'; it goes on with its own data only."
            )
    return experiment


def fingerprints(tasks: Sequence[Task]) -> dict[str, str]:
    """Compute a digest of what is trained and scored, by task."""
    return {task.name: _fingerprint(task) for task in tasks}


def _fingerprint(task: Task) -> str:
    digest = hashlib.sha256(repr((_whole(task.objective), task.pair_mode, task.batch_size)).encode())
    for split in ("train", "dev"):
        if examples := task.splits.get(split):
            digest.update(examples.digest())
    return digest.hexdigest()


def _whole(objective: Objective) -> object:
    """Describe an objective, and what its head does not depend on: class weights, the deciding score."""
    return described(objective) if type(objective) in KINDS.values() else objective


def sources(settings: Settings) -> str:
    """Name the modules of the plugins that a configuration asks for, without importing them."""
    points = catalog.installed()
    return ", ".join(f"{name} ({points[name].value})" for name in settings.plugins if name in points)
