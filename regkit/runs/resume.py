"""Resume: go on with a run - check that it is the same run, and build it as it stood."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from regkit.base.errors import ConfigError, RunError, explain, short
from regkit.base.files import TEXT, absolute
from regkit.data.declare import choose, find_tasks
from regkit.distributed.processes import ALONE, Processes
from regkit.hooks import catalog
from regkit.runs import checkpoint, folders
from regkit.runs.experiment import Experiment
from regkit.runs.keeping import CheckpointName, Keeping
from regkit.runs.lock import LOCK
from regkit.runs.log import LOG
from regkit.runs.settings import Settings
from regkit.tasks.task import Task
from regkit.training.effects import summary
from regkit.training.state import Position

AUTO = "auto"
# May differ: none of them changes what is learned, but for which values dropout sets to 0.
FREE = {"data", "device", "keep", "save_steps", "save_minutes", "micro_batch_tokens", "memory"}
WRITTEN = (LOG, "checkpoints", LOCK)  # what a run goes on writing in its folder, without replacing it
Say = Callable[[str], None]


@dataclass
class Records:
    """What a checkpoint holds of the run's folder at its moment."""

    stage: CheckpointName = ""
    log: Annotated[int, Field(ge=0)] = 0  # bytes
    keeping: Keeping = field(default_factory=Keeping)
    owners: dict[str, str] = field(default_factory=dict)  # the plugin of each term of the loss
    processes: Annotated[int, Field(ge=1)] = 1
    data: dict[str, str] = field(default_factory=dict)  # a digest of each task's examples


@dataclass
class Begun:
    """A run to go on with."""

    folder: Path
    checkpoint: Path | None  # None: nothing was saved yet
    training: Mapping[str, Any] = field(default_factory=dict)  # the trainer's state
    records: Records = field(default_factory=Records)

    def begins(self, step: int) -> bool:
        """Whether nothing was done since its checkpoint, which is at this step."""
        return self.checkpoint is not None and self.training["position"]["step"] == step

    def told(self, processes: int = 1) -> str:
        """Say in one line where the run goes on, with so many processes."""
        if self.checkpoint is None:
            return f"{self.folder} has no checkpoint yet: it begins anew"
        step = self.training["position"]["step"]
        line = f"{self.folder} goes on after step {step} of stage {self.records.stage}"
        if self.records.processes == processes:
            return line
        return (
            f"{line}, with {processes} processes instead of {self.records.processes}: the same examples, other dropout"
        )


def find(resume: str | None, output: Path | None) -> Path | None:
    """Find the run that `--resume` and `--output` mean; None for a new one."""
    if resume is None:
        return None
    if resume == AUTO:
        if output is None:
            raise ConfigError("--resume auto needs --output: the folder of the run, to begin or to go on with.")
        return output if folders.begun(output) else None
    if output is not None and absolute(output) != absolute(Path(resume)):
        raise ConfigError(f"a run goes on in its own folder; leave out --output {output}, or --resume {resume}.")
    folder = folders.find_folder(Path(resume))
    return folder.parent / folder.readlink() if folder.is_symlink() else folder


def same(folder: Path, ran: Settings, given: Settings) -> Settings:
    """Choose the settings to go on with: the run's, with given ones that change no result.

    ConfigError names the first of the others that differs.
    """
    theirs, ours = _plain(ran), _plain(given)
    for name in theirs:
        if name in FREE or theirs[name] == ours[name]:
            continue
        where, old, new = _difference(name, theirs[name], ours[name])
        advice = f"begin a new one; --encoder {folder}/best builds on this one"
        reason = (
            "its learning rate falls to 0 at that end" if name in ("epochs", "steps") else "a run goes on as it began"
        )
        raise ConfigError(f"{folder} has {where} = {old}, not {new}: {reason}; leave the option out, or {advice}.")
    return ran.model_copy(update={name: getattr(given, name) for name in FREE})


def _plain(settings: Settings) -> dict[str, Any]:
    """Turn settings into values that can be compared: tasks by name, options as the plugins have them."""
    found: dict[str, Any] = settings.model_dump(mode="json")
    found["tasks"] = settings.tasks or list(choose(find_tasks(settings.data), None))
    found["plugins"] = [
        [name, catalog.chosen(name, catalog.make(name, given), given)] for name, given in settings.plugins.items()
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


def newest(folder: Path, say: Say) -> Begun:
    """Read the run at its newest whole checkpoint, and say which newer ones are damaged.

    Nothing of the run is executed to find out.
    """
    for path in (folder / name for name in WRITTEN):
        if path.is_symlink():
            raise RunError(f"{path} leads out of the run's folder; a run writes in its own folder only.")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise RunError(f"{path} is no plain file; a run writes in its own folder only.")
    parent = folder / "checkpoints"
    found = [path for path in parent.iterdir() if path.is_dir() and not path.is_symlink()] if parent.is_dir() else []
    damaged = 0
    for path in sorted(found, key=checkpoint.place, reverse=True):
        if trouble := checkpoint.damage(path):
            if not path.name.startswith("."):  # or else one that was never finished
                say(f"checkpoint {path.name} is damaged: {trouble}. The one before it is used.")
                damaged += 1
            continue
        return _begun(folder, path)
    if damaged:
        raise RunError(
            f"no checkpoint of {folder} is whole; remove the folder to begin anew, or name another --output."
        )
    return Begun(folder, None)


def _begun(folder: Path, path: Path) -> Begun:
    """Read the run at this checkpoint, and check its contents."""
    state = checkpoint.load_training(path)
    try:
        position = asdict(TypeAdapter(Position).validate_python(state["position"]))
        if min(position["stage"], position["step"], *position["seen"].values()) < 0:
            raise TypeError("its position has a number below 0")
        records = TypeAdapter(Records).validate_python(state["run"])
        if not isinstance(state["plugins"], Mapping) or not isinstance(state["optimizer"], Mapping):
            raise TypeError("its training state is of another kind")
        _check_optimizer(state["optimizer"])
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        if isinstance(error, ValidationError):
            reason = explain(error, "its state", ())
        raise RunError(f"{path} cannot be resumed from: {reason.rstrip('.')}.") from None
    _check_log(folder / LOG, records.log)
    return Begun(folder, path, {**state, "position": position}, records)


def _check_optimizer(found: Mapping[str, Any]) -> None:
    """Raise TypeError for state that is no number, or that differs between parameters of a group.

    torch takes all of it, and fails when the parameter has its next gradient.
    """
    for group in found.get("param_groups", ()):
        states = [found["state"][number] for number in group["params"] if number in found["state"]]
        for values in states:
            if values.keys() != states[0].keys():
                raise TypeError("its optimizer does not have the same state for all parameters")
            if not all(isinstance(value, Tensor | float | int) for value in values.values()):
                raise TypeError("its optimizer has a state that is no number")


def _check_log(path: Path, size: int) -> None:
    """Raise RunError if the log up to the checkpoint is not what a run writes: it is summed up at the end."""
    found = []
    try:
        with path.open("rb") as file:
            while file.tell() < size and (line := file.readline(TEXT)):
                record = json.loads(line)
                if "effects" in record:
                    found.append(record["effects"])
        summary(found)
    except FileNotFoundError:
        return
    except Exception as error:  # whatever numbers of another kind lead to
        raise RunError(f"{path} is not what a run writes: {short(error) or type(error).__name__}.") from None


def build(begun: Begun, settings: Settings, processes: Processes = ALONE) -> Experiment:
    """Build the run as it stood at its checkpoint; the encoder that it began with is not needed."""
    if begun.checkpoint is None:
        return Experiment.build(settings, processes)
    settings = settings.model_copy(update={"encoder": str(begun.checkpoint.resolve())})
    experiment = Experiment.build(settings, processes)
    checkpoint.load_heads(begun.checkpoint, experiment.model.heads)
    experiment.trainer.state.load(begun.training)
    if settings.memory != Settings.read(begun.folder / folders.CONFIG).memory:
        experiment.trainer.state.position.micro_batch_tokens = None  # what was found to fit in another bound
    for name, digest in fingerprints(experiment.tasks).items():
        if begun.records.data.get(name) != digest:
            raise RunError(
                f"{begun.folder} was trained on other examples of task '{name}'; it goes on with its own data only."
            )
    return experiment


def fingerprints(tasks: Sequence[Task]) -> dict[str, str]:
    """Compute a digest of what is trained and scored, by task."""
    return {task.name: _fingerprint(task) for task in tasks}


def _fingerprint(task: Task) -> str:
    digest = hashlib.sha256(repr((task.objective, task.pair_mode, task.batch_size)).encode())
    for split in ("train", "dev"):
        if examples := task.splits.get(split):
            digest.update(examples.digest())
    return digest.hexdigest()


def sources(settings: Settings) -> str:
    """Name the modules of the plugins that a configuration asks for, without importing them."""
    points = catalog.installed()
    return ", ".join(f"{name} ({points[name].value})" for name in settings.plugins if name in points)


def leftovers(folder: Path) -> list[Path]:
    """List what a killed process was about to write into a run's folder."""
    inside = [*folder.iterdir(), *(folder / "checkpoints").glob(".*")]
    return [path for path in inside if re.fullmatch(r"\.[\w.-]+\.\d+(\.old)?", path.name)]
