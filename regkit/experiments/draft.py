"""Draft: a study as a file describes it, before a command line changes it and its rows are made."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import get_args

from regkit.base.errors import ConfigError, nearest, typed
from regkit.base.files import absolute
from regkit.experiments.rows import Making, Row, parse_set
from regkit.runs.radii import RADII, read_radii
from regkit.runs.settings import Settings, read_values

MOST_SEEDS = 1000
TIME = re.compile(r"(?:(\d+)\s*h)?\s*(?:(\d+)\s*m(?:in)?)?\s*(?:(\d+)\s*s)?")


@dataclass(frozen=True)
class Draft:
    """A study as a file describes it; what it leaves open is None."""

    settings: Settings = field(default_factory=Settings)
    rows: Sequence[Row] = ()
    sets: Sequence[Row] = ()  # of which `making` makes rows
    making: Making | None = None
    seeds: Sequence[int] | None = None
    baseline: str | None = None
    controls: bool = False
    radii: Sequence[float] = ()  # of the attacks, where runs are scored on changed examples, too
    race: float | None = None  # seconds for which the rows race
    storage: str | None = None


def read_draft(path: Path) -> Draft:
    """Read a study from a TOML file.

    It has settings as in a config, `seeds`, `baseline`, `controls`, `robust`, `race`, `storage` and tables `[rows.NAME]`.
    `make = "grid"`, or another way, makes rows of the sets that `of = ["smart", "rrobin"]` lists. `robust` is true, or a list
    of radii. Raises ConfigError.
    """
    values, folder = read_values(path), absolute(path).parent
    names = ("rows", "seeds", "baseline", "controls", "robust", "race", "make", "of", "storage")
    own = {name: values.pop(name) for name in names if name in values}
    if "search" in values:
        raise ConfigError(f"{path} asks for a search, which is for {typed('regkit', 'tune', path)}.")
    if "seed" in values:
        raise ConfigError(f"{path}: a study has several seeds: seeds = 5, or seeds = [0, 1, 2].")
    settings = Settings.checked(values, str(path)).below(folder)
    rows, sets = own.get("rows", {}), own.get("of", [])
    if not isinstance(rows, dict) or not all(isinstance(changes, dict) for changes in rows.values()):
        raise ConfigError(f"{path}: rows are tables, [rows.NAME], each with the settings and plugins that it changes.")
    if not isinstance(sets, list) or not all(isinstance(each, str) for each in sets):
        raise ConfigError(f'{path}: of is {sets!r}; a list of sets is needed, such as ["smart", "rrobin"].')
    if ("make" in own) != bool(sets):
        raise ConfigError(f'{path}: make = "grid", or another way, and of = ["smart", "rrobin"] go together.')
    for name in ("baseline", "storage"):
        if not isinstance(own.get(name, ""), str):
            raise ConfigError(f"{path}: {name} is {own[name]!r}; a text is needed.")
    if not isinstance(own.get("controls", False), bool):
        raise ConfigError(f"{path}: controls is {own['controls']!r}; true or false is needed.")
    return Draft(
        settings,
        [Row.checked(name, changes, f"{path}: row '{name}'", folder) for name, changes in rows.items()],
        [parse_set(each) for each in sets],
        read_making(own.get("make"), f"{path}: make"),
        read_seeds(own["seeds"], f"{path}: seeds") if "seeds" in own else None,
        own.get("baseline"),
        own.get("controls", False),
        read_robust(own.get("robust", False), f"{path}: robust"),
        read_race(own["race"], f"{path}: race") if "race" in own else None,
        own.get("storage"),
    )


def read_race(value: object, owner: str) -> float:
    """Read for how long rows race: `1h`, `45min`, `1h30m`, or seconds.

    Raises ConfigError for anything else.
    """
    seconds = _seconds(value) if isinstance(value, str) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < inf:
        raise ConfigError(f"{owner} is {value!r}; give a time, such as 1h, 45min or 1h30min.")
    return float(seconds)


def _seconds(text: str) -> int:
    found = TIME.fullmatch(text.strip())
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    return 3600 * hours + 60 * minutes + seconds


def read_robust(value: object, owner: str) -> tuple[float, ...]:
    """Read whether runs are scored on changed examples, and the radii of their attacks.

    A file says true, false, or a list of radii. Raises ConfigError.
    """
    if isinstance(value, bool):
        return RADII if value else ()
    if not isinstance(value, list):
        raise ConfigError(f"{owner} is {value!r}; true, false, or a list of radii such as [0.03, 0.1] is needed.")
    return read_radii(value, owner)


def read_making(value: object, owner: str) -> Making | None:
    """Read the way in which rows are made. Raises ConfigError."""
    known: Mapping[str, Making] = {name: name for name in get_args(Making)}
    if value is None:
        return None
    if value not in known:
        raise ConfigError(f"{owner} is {value!r}. {nearest(str(value), known)}")
    return known[str(value)]


def read_seeds(value: object, owner: str) -> tuple[int, ...]:
    """Read seeds: a number of them, or a list.

    Raises ConfigError for none, one that is twice there, or another value.
    """
    given: object = value
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() for part in parts if part):
            raise ConfigError(f"{owner} is {value!r}; give a number of seeds, or a list such as 0,1,2.")
        given = int(value) if parts[1:] == [] and parts[0] else [int(part) for part in parts if part]
    whole = isinstance(given, int) and not isinstance(given, bool)
    if isinstance(given, int) and whole and not 1 <= given <= MOST_SEEDS:
        raise ConfigError(f"{owner} is {value!r}; give a number from 1 to {MOST_SEEDS}, or a list.")
    seeds = tuple(range(given)) if isinstance(given, int) and whole else given
    if not isinstance(seeds, list | tuple) or not seeds or not all(type(each) is int and each >= 0 for each in seeds):
        raise ConfigError(f"{owner} is {value!r}; give a number of seeds, or a list of numbers from 0.")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{owner}: a seed is given twice; every run of a row has another one.")
    return tuple(seeds)
