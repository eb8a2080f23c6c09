"""Disk: free what a finished run holds and nobody needs.

A finished run cannot go on, so its training state is of no use, and of its checkpoints only `best` and `last` have names. At
every moment in between, what stays is whole: a kill loses nothing, and the same call again does the rest.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from regkit.base.errors import RunError
from regkit.base.files import follow
from regkit.runs import manifest
from regkit.runs.folders import CHECKPOINT, FINISHED, size_of
from regkit.runs.manifest import STATE
from regkit.runs.resumable import leftovers

NAMED = ("best", "last")


@dataclass(frozen=True)
class Superfluous:
    """What a finished run can do without."""

    states: tuple[Path, ...] = ()  # checkpoints whose training state goes, and whose weights stay
    whole: tuple[Path, ...] = ()  # checkpoints, and what a killed process left, that go altogether

    @property
    def size(self) -> int:
        """Count the bytes."""
        files = [folder / name for folder in self.states for name in STATE if (folder / name).exists()]
        return sum(map(size_of, [*files, *self.whole]))

    def __str__(self) -> str:
        """Say in a few words what it is."""
        parts = {"training state of": self.states, "all of": self.whole}
        return ", ".join(f"{what} {_listed(paths)}" for what, paths in parts.items() if paths)

    def free(self) -> None:
        """Remove it. Raises OSError where the system refuses."""
        for folder in self.states:
            manifest.drop_state(folder)
        for path in self.whole:
            hidden = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}.old")
            path.rename(hidden)  # in one step: no half of a checkpoint keeps its name
            shutil.rmtree(hidden) if hidden.is_dir() and not hidden.is_symlink() else hidden.unlink()


def older_states(folder: Path) -> Superfluous:
    """Find the training state of all checkpoints but the last: what goes when a run finishes."""
    last = follow(folder / "last").resolve()
    return Superfluous(states=tuple(path for path in _with_state(_checkpoints(folder)) if path.resolve() != last))


def superfluous(folder: Path) -> Superfluous:
    """Find all that a finished run can do without: it keeps the weights of `best` and `last`.

    Raises RunError for a run that is not finished, and where one of these two is not whole.
    """
    if not (folder / FINISHED).is_file():
        raise RunError(f"{folder} is not finished, and needs all of it to go on.")
    if not (any(os.path.lexists(folder / name) for name in NAMED) or _checkpoints(folder)):
        return Superfluous(whole=tuple(leftovers(folder)))  # of a study, which needs no more than its scores
    kept = set()
    for name in NAMED:
        path = follow(folder / name)
        trouble = manifest.damage(path) if path.is_dir() else "it leads to no checkpoint"
        if trouble:
            raise RunError(f"{folder / name} is damaged: {trouble}; nothing of this run is removed.")
        kept.add(path.resolve())
    found = _checkpoints(folder)
    named = [path for path in found if path.resolve() in kept]
    others = [path for path in found if path.resolve() not in kept]
    return Superfluous(tuple(_with_state(named)), (*others, *leftovers(folder)))


def weights(folder: Path) -> Superfluous:
    """Find all checkpoints of a finished run, for whoever needs its scores alone."""
    links = [folder / name for name in NAMED if os.path.lexists(folder / name)]
    return Superfluous(whole=(*links, *_checkpoints(folder), *leftovers(folder)))


def _checkpoints(folder: Path) -> list[Path]:
    """List a run's checkpoints; what has another name in their folder, or is a link, is the user's."""
    parent = folder / "checkpoints"
    if parent.is_symlink() or not parent.is_dir():
        return []
    found = (path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(path for path in found if CHECKPOINT.fullmatch(path.name))


def _with_state(folders: Iterable[Path]) -> list[Path]:
    return [folder for folder in folders if any((folder / name).exists() for name in STATE)]


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(path.name for path in paths)
