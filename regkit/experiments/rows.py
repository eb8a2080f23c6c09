"""Rows: the named sets of plugins and settings that a study compares."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

from regkit.base.bounds import NONE
from regkit.base.errors import ConfigError, PluginError, RegkitError, nearest
from regkit.hooks import catalog, option_values
from regkit.runs.elsewhere import setting_called
from regkit.runs.settings import PER_TASK, Settings, check_one_length

PLAIN, ALL = "plain", "all"  # names of rows: the shared settings alone, and every set together
Making = Literal["leave-one-out", "one-at-a-time", "grid"]
OPTION = re.compile(r"\s*\+\s*(?=[^\W\d]|[./~\\])")  # between two parts of a set, and not within 1e+5
MOST = 512  # rows of a grid
OF_ALL_ROWS = ("dev", "test", "label", "kind")  # what is scored: with others, nothing could be compared


@dataclass(frozen=True)
class Row:
    """A row: what its runs change in the settings that all rows share."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # plain values, checked
    plugins: Mapping[str, Mapping[str, Any] | Literal[False]] = field(default_factory=dict)  # False takes one away

    @classmethod
    def checked(cls, name: str, values: Mapping[str, Any], owner: str, folder: Path) -> "Row":
        """Check what a row changes, as a table of a file gives it; relative paths in it start at the folder.

        Raises ConfigError, which names the `owner`.
        """
        empty = {key: dict[str, Any]() for key in PER_TASK}
        settings = {
            key: empty.get(key) if value == NONE else value for key, value in values.items() if key != "plugins"
        }
        for key in settings:
            _check_setting(key, owner)
        if isinstance(tasks := settings.get("tasks"), str):
            settings["tasks"] = [each.strip() for each in tasks.split(",")]
        found = Settings.checked(settings, owner).below(folder).model_dump(mode="json", include=set(settings))
        return cls(name, found, _noted(_plugins(values, owner)))

    @property
    def changes(self) -> dict[str, Any]:
        """All that the row changes, as a table of a file: settings, and plugins under `plugins`."""
        return {**self.settings, **({"plugins": dict(self.plugins)} if self.plugins else {})}

    def __str__(self) -> str:
        """Write what the row changes, as a set of the command line does."""
        plugins = [
            f"without {name}" if options is False else _set_text(name, options)
            for name, options in self.plugins.items()
        ]
        settings = [f"{name}={NONE if value is None else value}" for name, value in self.settings.items()]
        return "+".join([*plugins, *settings])

    def apply(self, shared: Settings) -> Settings:
        """Change the shared settings. Raises ConfigError, which names the row."""
        values = shared.model_dump() | dict(self.settings)
        if "epochs" in self.settings and "steps" not in self.settings:
            values["steps"] = None
        plugins: dict[str, dict[str, Any]] = {name: dict(options) for name, options in shared.plugins.items()}
        for name, options in self.plugins.items():
            if options is False:
                plugins.pop(name, None)
            else:
                plugins[name] = plugins.get(name, {}) | dict(options)
        return Settings.checked(values | {"plugins": plugins}, f"row '{self.name}'")

    @property
    def slug(self) -> str:
        """Name the row as a part of a folder's name.

        One that has to be changed for that gets a hash of its own.
        """
        plain = re.sub(r"[^a-z0-9_.=+-]+", "-", self.name.lower())[:60].strip("-.")
        return plain if plain == self.name else f"{plain}-{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"


def _plugins(values: Mapping[str, Any], owner: str) -> Mapping[str, Any]:
    """Read the plugins of a row: the options of each, or false. Raises ConfigError for anything else."""
    plugins = values.get("plugins", {})
    if not isinstance(plugins, Mapping):
        raise _no_options("plugins", plugins, owner)
    for name, options in plugins.items():
        if options is not False and not isinstance(options, Mapping):
            raise _no_options(name, options, owner)
    return plugins


def _no_options(name: str, given: object, owner: str) -> ConfigError:
    return ConfigError(f"{owner}: {name} is {given!r}; give its options, plugins.smart = {{weight = 2}}, or false.")


def _noted(plugins: Mapping[str, Any]) -> dict[str, Any]:
    """Note with the options of plugins in files which code it is."""
    return {
        name: options if options is False else option_values.noted(name, options) for name, options in plugins.items()
    }


def _set_text(name: str, options: Mapping[str, Any]) -> str:
    given = ",".join(f"{key}={value}" for key, value in options.items() if key != option_values.CODE)
    return f"{name}:{given}" if given else name


def parts(text: str) -> list[str]:
    """Part a set into its plugins and settings: `smart:epsilon=0.1,weight=2+dropout=0` at the `+`."""
    return [part.strip() for part in OPTION.split(text)]


def parse_set(text: str) -> Row:
    """Read a set: plugins and settings joined by `+`.

    Examples are `plain`, `smart`, `smart:epsilon=0.1,weight=2+rrobin` or `dropout=0`. Raises PluginError or ConfigError for
    what is twice there, or is neither.
    """
    settings: dict[str, Any] = {}
    plugins: dict[str, dict[str, Any]] = {}
    for part in parts(text):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        above, dot, below = name.partition(".")
        if dot and above in Settings.model_fields:
            raise ConfigError(f"-p {text}: {above} is a setting; write {above}={below}={value}.")
        if ":" in name or not equals or dot:
            name, options = catalog.parse(part)
            _once(name, plugins, text)
            if name != PLAIN:
                plugins[name] = options
            elif options:
                raise PluginError(f"-p {text}: plain is the shared settings alone, and no plugin; it has no options.")
        else:
            _once(name, settings, text)
            if name == "plugins":  # the key of a file's table
                raise ConfigError(f"-p {text}: a plugin stands there by its own name, such as smart:weight=2.")
            settings[name] = value
    check_one_length(settings, f"-p {text}")
    return Row.checked(text.strip(), settings | {"plugins": plugins}, f"-p {text}", Path.cwd())


def _once(name: str, found: Mapping[str, Any], text: str) -> None:
    if name in found:
        raise PluginError(f"-p {text}: {name} is given twice.")
    if not name:
        raise PluginError(f"-p {text}: a set is made of plugins and settings, such as smart:weight=2+dropout=0.")


def _check_setting(name: str, owner: str) -> None:
    if name == "seed":
        raise ConfigError(f"{owner}: every row is run with the same seeds, which --seeds sets.")
    if name == "encoder_factory":  # what is imported is named once, where the user is
        raise ConfigError(f"{owner}: --encoder-factory is one for all rows.")
    if name in OF_ALL_ROWS:
        raise ConfigError(
            f"{owner}: every row is scored on the same examples and labels, which --{name} names for all."
        )
    known = set(Settings.model_fields) - {"seed", "encoder_factory", "labels", "plugins"}
    if name not in known:
        raise ConfigError(f"{owner}: there is no setting '{name}'. {nearest(setting_called(name), known)}")


def make_rows(sets: Sequence[Row], making: Making | None) -> list[Row]:
    """Make rows of sets: each alone, all together but one, or every combination. Raises ConfigError.

    Two sets that give one plugin or setting other values stand side by side in no row.
    """
    own = [each for each in sets if each.changes]
    if making is None:
        return list(sets)
    if not own:
        raise ConfigError(f"{making} makes rows of sets of plugins and settings, and none is given.")
    if making == "one-at-a-time":
        return [Row(PLAIN), *own]
    if making == "leave-one-out":
        return _leave_one_out(own)
    return _grid(own)


def _leave_one_out(sets: Sequence[Row]) -> list[Row]:
    whole = _joined(sets, ALL)
    if whole is None:
        raise ConfigError("leave-one-out begins with all sets together, and two of them give one thing two values.")
    without = [[other for other in sets if other is not each] for each in sets]
    rows = [_joined(rest, f"without {each.name}") for each, rest in zip(sets, without, strict=True)]
    return [whole, *filter(None, rows)]


def _grid(sets: Sequence[Row]) -> list[Row]:
    if 2 ** len(sets) > MOST:
        raise ConfigError(f"a grid of {len(sets)} sets has {2 ** len(sets)} rows, and {MOST} are the most.")
    rows = []
    for chosen in sorted(product((False, True), repeat=len(sets)), key=sum):
        taken = [each for each, wanted in zip(sets, chosen, strict=True) if wanted]
        rows.append(_joined(taken, " + ".join(each.name for each in taken) or PLAIN))
    return [row for row in rows if row is not None]


def _joined(sets: Iterable[Row], name: str) -> Row | None:
    """Join sets to one row; None where one gives another value than another."""
    settings: dict[str, Any] = {}
    plugins: dict[str, Any] = {}
    for each in sets:
        for found, more in ((settings, each.settings), (plugins, each.plugins)):
            if any(key in found and found[key] != value for key, value in more.items()):
                return None
            found |= more
    return Row(name, settings, plugins)


@contextmanager
def naming(row: Row) -> Iterator[None]:
    """Let an error inside name the row, unless it is of the settings that all share."""
    try:
        yield
    except RegkitError as error:
        if not row.changes:
            raise
        raise type(error)(f"row '{row.name}': {error}") from None
