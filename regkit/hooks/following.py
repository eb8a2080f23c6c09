"""Following: what plugins share that follow a run - numbers by name, and the place where they stopped."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from regkit.base.errors import PluginError
from regkit.base.files import read_object, write

Plain = str | int | float | bool
LOG = ("begin_run", "logged", "end_run")  # hooks of those that follow a run
PATIENCE = 10  # seconds in which a server answers
CLOCK = ("time", "updates", "step")  # entries of a line of the log that say when it was


def flatten(nested: Mapping[str, Any], joint: str = "/") -> dict[str, Plain]:
    """Write a nesting of mappings as one: `{"scores": {"sst": 0.5}}` is `{"scores/sst": 0.5}`.

    A list becomes a text with commas. What is None is left out.
    """
    return dict(_flat(nested, joint))


def _flat(nested: Mapping[str, Any], joint: str, above: str = "") -> Iterator[tuple[str, Plain]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flat(value, joint, f"{above}{name}{joint}")
        elif isinstance(value, list | tuple):
            yield f"{above}{name}", ", ".join(map(str, value))
        elif value is not None:
            yield f"{above}{name}", value


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """Name each number in a line of the log, such as `losses/sst/task`; what says when it was is left out.

    Of an update that was skipped, `skipped` is 1.
    """
    told = {name: value for name, value in record.items() if name not in CLOCK}
    if "skipped" in told:
        told["skipped"] = 1
    return {name: value for name, value in flatten(told).items() if not isinstance(value, str | bool)}


@dataclass
class Bookmark:
    """Keep a tracker's place in a run's folder: its name for the run, and how far it was told."""

    file: Path
    id: str = ""  # of the run in the tracker; empty where it does not know the run yet
    updates: int = -1  # of the last line that was told
    scored: bool = False  # whether that line had the scores, which come last after an update

    @classmethod
    def open(cls, folder: Path, tracker: str) -> "Bookmark":
        """Read the place of this tracker in a run's folder; that of one which knows nothing if there is none."""
        file = folder / f"{tracker}.json"
        match read_object(file):
            case {"id": str(known), "updates": int(updates), "scored": bool(scored)}:
                return cls(file, known, updates, scored)
        return cls(file)

    def new(self, records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Select the lines of the log that were not told.

        A run that goes on repeats those since its checkpoint.
        """
        return [record for record in records if _place(record) > (self.updates, self.scored)]

    def move(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Note that these lines were told, and write the place into the run's folder."""
        self.updates, self.scored = max([(self.updates, self.scored), *map(_place, records)])
        write(self.file, json.dumps({"id": self.id, "updates": self.updates, "scored": self.scored}))


def _place(record: Mapping[str, Any]) -> tuple[int, bool]:
    return record["updates"], "scores" in record


def check_server(url: str) -> None:
    """Raise OSError if a server does not answer within 10 seconds: libraries of trackers try for minutes.

    Whatever it answers will do, and so will a certificate that Python does not know: the library may be told of others.
    """
    from http.client import HTTPException  # these three take a tenth of a second, and whoever lists plugins is here too
    from ssl import SSLError
    from urllib.error import HTTPError
    from urllib.request import urlopen

    scheme, _, place = url.partition("://")
    shown = f"{scheme}://{place.rpartition('@')[2]}"  # without a password
    try:
        urlopen(shown, timeout=PATIENCE).close()
    except HTTPError:
        return
    except (OSError, HTTPException, ValueError) as error:
        cause = getattr(error, "reason", error)
        if not isinstance(cause, SSLError):
            raise OSError(f"{shown} cannot be reached: {getattr(cause, 'strerror', None) or cause}") from error


def check_library(plugin: str, module: str, package: str) -> None:
    """Raise PluginError with the command to type if a plugin's library is not installed.

    Nothing is imported.
    """
    found = find_spec(module)
    if found is None or found.origin is None:  # a mere folder of that name, as wandb leaves one
        raise PluginError(f"'{plugin}' needs its library: pip install '{package}'.")
