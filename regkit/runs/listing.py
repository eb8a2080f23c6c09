"""Listing: read what there is to say of runs from their folders, without torch."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from regkit.base.errors import ConfigError, RunError, nearest
from regkit.base.files import follow, read_object
from regkit.runs.folders import CONFIG, FINISHED, LATEST, LOG, RUNS, is_run, size_of
from regkit.runs.lock import held
from regkit.runs.settings import Settings

DEEPEST = 3  # folders below the given one in which runs are looked for
TAIL = 1 << 16  # bytes at the end of a log, which hold its last line


@dataclass(frozen=True)
class Run:
    """A run, known by the path that the user would give: that of a namesake elsewhere is another."""

    folder: Path

    @cached_property
    def settings(self) -> Settings | None:
        """The run's settings; None if its config.toml cannot be read."""
        with suppress(ConfigError):
            return Settings.read(self.folder / CONFIG)
        return None

    @property
    def state(self) -> str:
        """Whether the run is finished, running (its folder is locked), or stopped before its end."""
        if held(self.folder):
            return "running"
        return "finished" if (self.folder / FINISHED).is_file() else "stopped"

    @property
    def plugins(self) -> list[str]:
        """The names of the run's plugins."""
        return list(self.settings.plugins) if self.settings else []

    @cached_property
    def scores(self) -> Mapping[str, Mapping[str, float]]:
        """The dev scores of the best checkpoint, by task."""
        found = read_object(self.folder / "scores.json").get("dev")
        tasks = found.items() if isinstance(found, dict) else ()
        return {task: scores for task, scores in tasks if isinstance(scores, dict)}

    @cached_property
    def seconds(self) -> float | None:
        """The time from the first line of the log to its last, pauses included; None without a log."""
        try:
            first, last = _ends(self.folder / LOG)
            seconds = float(json.loads(last)["time"]) - float(json.loads(first)["time"])
        except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return None
        return seconds if math.isfinite(seconds) else None

    @cached_property
    def bytes(self) -> int:
        """The bytes of all of its files."""
        return size_of(self.folder)

    def as_json(self) -> dict[str, Any]:
        """Put what is known of the run into plain values."""
        return {
            "run": str(self.folder),
            "state": self.state,
            "plugins": self.settings.plugins if self.settings else {},
            "scores": self.scores,
            "seconds": self.seconds,
            "bytes": self.bytes,
        }


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """Find the runs that these paths are, or that are in these folders, oldest first.

    Without paths, those in `runs/`.     Raises RunError for a path that is neither a run nor a folder.
    """
    found = [run for path in paths or [RUNS] for run in _find(path, must_exist=bool(paths))]
    once = {os.path.realpath(run.folder): run for run in reversed(found)}
    return sorted(once.values(), key=lambda run: (run.folder / CONFIG).stat().st_mtime)


def _find(path: Path, *, must_exist: bool) -> Iterator[Run]:
    folder = follow(path)
    if is_run(folder):
        yield Run(path)
    elif folder.is_dir():
        yield from _inside(folder, DEEPEST)
    elif must_exist:
        others = [each.name for each in path.parent.iterdir() if each.is_dir()] if path.parent.is_dir() else []
        raise RunError(f"there is no run or folder {path}. {nearest(path.name, others)}")


def _inside(folder: Path, depth: int) -> Iterator[Run]:
    """Look for runs in a folder, but not behind links: `runs/latest` is one that has a name already."""
    with suppress(OSError):  # one that may not be read
        for each in sorted(folder.iterdir()):
            if each.is_symlink() or not each.is_dir() or each.name in ("checkpoints", LATEST):
                continue
            if is_run(each):
                yield Run(each)
            elif depth > 1:
                yield from _inside(each, depth - 1)


def _ends(log: Path) -> tuple[bytes, bytes]:
    """Read the first line of a log, and the last one."""
    with log.open("rb") as file:
        first = file.readline(TAIL)
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        return first, file.read(TAIL).splitlines()[-1]


def differing(one: Run, other: Run) -> dict[str, tuple[Any, Any]]:
    """List the settings that differ between two runs, with the two values; None where one has none."""
    found, others = (flat(run) for run in (one, other))
    names = dict.fromkeys([*found, *others])
    return {name: (found.get(name), others.get(name)) for name in names if found.get(name) != others.get(name)}


def flat(run: Run) -> dict[str, Any]:
    """List a run's settings by name, plugins' options as `plugin:option`; none if they cannot be read."""
    values: dict[str, Any] = run.settings.model_dump(mode="json") if run.settings else {}
    plugins = values.pop("plugins", {})
    options = {f"{name}:{option}": value for name, given in plugins.items() for option, value in given.items()}
    return values | {"plugins": ", ".join(plugins)} | options
