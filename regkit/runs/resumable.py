"""Resumable: read a run at its newest whole checkpoint, and check what it holds."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from regkit.base.errors import RunError, explain, short
from regkit.base.files import TEXT
from regkit.base.hidden import meant
from regkit.runs import checkpoint, manifest
from regkit.runs.folders import LOG
from regkit.runs.keeping import CheckpointName, Keeping
from regkit.runs.lock import LOCK, Say
from regkit.training.effects import summary
from regkit.training.state import Position

WRITTEN = (LOG, "checkpoints", LOCK)  # what a run goes on writing in its folder, without replacing it


@dataclass
class FolderState:
    """What a checkpoint holds of the run's folder at its moment."""

    stage: CheckpointName = ""
    log: Annotated[int, Field(ge=0)] = 0  # bytes
    keeping: Keeping = field(default_factory=Keeping)
    owners: dict[str, str] = field(default_factory=dict)  # the plugin of each term of the loss
    processes: Annotated[int, Field(ge=1)] = 1
    memory: int | None = None  # the bound under which the size of micro-batches was found
    data: dict[str, str] = field(default_factory=dict)  # a digest of each task's examples


@dataclass
class Resumable:
    """A run to go on with."""

    folder: Path
    checkpoint: Path | None  # None: nothing was saved yet
    training: Mapping[str, Any] = field(default_factory=dict)  # the trainer's state
    records: FolderState = field(default_factory=FolderState)

    def stands_at(self, step: int) -> bool:
        """Whether nothing was done since its checkpoint, which is at this step."""
        return self.checkpoint is not None and self.training["position"]["step"] == step

    def describe(self, processes: int = 1) -> str:
        """Say in one line where the run goes on, with so many processes."""
        if self.checkpoint is None:
            return f"{self.folder} has no checkpoint yet: it begins anew"
        step = self.training["position"]["step"]
        line = f"{self.folder} goes on after step {step} of stage {self.records.stage}"
        if self.records.processes == processes:
            return line
        now = f"{processes} process{'' if processes == 1 else 'es'}"
        return f"{line}, with {now} instead of {self.records.processes}: the same examples, other dropout"


def newest(folder: Path, say: Say) -> Resumable:
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
    if found and (
        solid := [path for path in (folder / "last", folder / "best") if path.is_dir() and not path.is_symlink()]
    ):
        raise RunError(
            f"{' and '.join(map(str, solid))}: a run links to its checkpoints, and this copy has folders for links; "
            f"remove what is named here, for {parent} holds the same."
        )
    damaged = 0
    for path in sorted(found, key=manifest.order, reverse=True):
        if trouble := manifest.damage(path):
            if not path.name.startswith("."):  # or else one that was never finished
                say(f"checkpoint {path.name} is damaged: {trouble}. The one before it is used.")
                damaged += 1
            continue
        return _read(folder, path)
    if damaged:
        raise RunError(
            f"no checkpoint of {folder} is whole; remove the folder to begin anew, or name another --output."
        )
    return Resumable(folder, None)


def _read(folder: Path, path: Path) -> Resumable:
    """Read the run at this checkpoint, and check its contents."""
    state = checkpoint.load_training(path)
    try:
        position = asdict(TypeAdapter(Position).validate_python(state["position"]))
        if min(position["stage"], position["step"], *position["seen"].values()) < 0:
            raise TypeError("its position has a number below 0")
        records = TypeAdapter(FolderState).validate_python(state["run"])
        if not isinstance(state["plugins"], Mapping) or not isinstance(state["optimizer"], Mapping):
            raise TypeError("its training state is of another kind")
        _check_optimizer(state["optimizer"])
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        if isinstance(error, ValidationError):
            reason = explain(error, "its state", ())
        raise RunError(f"{path} cannot be resumed from: {reason.rstrip('.')}.") from None
    _check_log(folder / LOG, records.log)
    return Resumable(folder, path, {**state, "position": position}, records)


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


def leftovers(folder: Path) -> list[Path]:
    """List what a killed process was about to write into a run's folder."""
    inside = [*folder.iterdir(), *(folder / "checkpoints").glob(".*")]
    return [path for path in inside if meant(path)]
