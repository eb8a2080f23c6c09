"""Space: read what a search shall vary, and check it against the options.

It is given by a file or the command line.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, replace
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from regkit.base.bounds import Tuned, convert
from regkit.base.described import Option
from regkit.base.errors import ConfigError, explain, nearest, short
from regkit.experiments.search.dimension import Dimension, Space, written
from regkit.hooks import catalog, option_fields, option_values, uninstalled
from regkit.runs.elsewhere import setting_called
from regkit.runs.settings import Settings
from regkit.runs.settings import options as all_settings

# The settings that change what is learned. The others say on what, where, and how it is judged, and stay as they are.
SEARCHED = [
    "epochs", "steps", "patience", "batch_size", "learning_rate", "warmup", "weight_decay", "clip", "dropout", "pooling",
    "max_length", "length_bucketing", "fresh_heads",
]  # fmt: skip
NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\s*(?:\.\.|to\s)\s*({NUMBER})(?:,?\s*(?:(log)|step\s+({NUMBER})))?")
FORMS = 'a range such as "0.1..10 log" or "1..5", or choices such as "0, 0.1"'


def space_of(settings: Settings, wanted: Mapping[str, Any] | None, owner: str) -> Space:
    """Make the space of a search. `wanted` has a range of each name; None takes the declared ranges.

    Names may be nested, as TOML nests them. Raises ConfigError or PluginError in one sentence; nothing is imported for it
    but plugins whose source does not tell.
    """
    ranges = dict(_flat(wanted, owner)) if wanted is not None else declared(settings)
    space = {name: _asked(settings, name, owner).dimension(value) for name, value in ranges.items()}
    if not space:
        raise ConfigError(f"{owner}: there is nothing to search; name an option, such as learning_rate, with {FORMS}.")
    check_length(settings, space, owner)
    return space


def check_length(settings: Settings, space: Space, owner: str) -> None:
    """Raise ConfigError where a search varies the epochs of runs that have a number of steps."""
    if "epochs" in space and (settings.steps or "steps" in space):
        raise ConfigError(f"{owner}: epochs has no effect beside steps; leave one of them out.")


def declared(settings: Settings) -> dict[str, Literal[True]]:
    """List what is searched where nothing is said: the learning rate, and what plugins declare as tuned."""
    names = ["learning_rate"] if settings.finetune else []
    for plugin, given in settings.plugins.items():
        for option in _options(plugin).values():
            if option.name == option_values.WEIGHT and option_values.share(plugin, given):
                continue  # regkit chooses it
            keys = given.get(option.name, {}) if _is_table(option) else [""]
            names += [".".join(filter(None, [plugin, option.name, key])) for key in keys if option.tuned]
    return dict.fromkeys(names, True)


def changed(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Change settings by the values of a trial, named as in a space."""
    plugins = {name: dict(given) for name, given in settings.plugins.items()}
    own = {name: value for name, value in values.items() if "." not in name}
    for name, value in values.items():
        if name in own:
            continue
        plugin, option, *key = name.split(".", 2)
        plugins[plugin][option] = plugins[plugin].get(option, {}) | {key[0]: value} if key else value
    return settings.model_copy(update=own | {"plugins": plugins})


def _flat(wanted: Mapping[str, Any], owner: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give what is nested the names that are written in one piece: `smart.epsilon`."""
    seen = set[str]()
    for key, value in wanted.items():
        pairs = _flat(value, owner, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
        for long, each in pairs:
            name = long.removeprefix("plugins.")
            if name in seen:
                raise ConfigError(f"{owner}: {name} is given twice.")
            seen.add(name)
            yield name, each


@dataclass(frozen=True)
class _Asked:
    """An option that a search shall vary, and what an error calls it."""

    option: Option
    default: Any
    name: str
    subject: str

    def dimension(self, wanted: Any) -> Dimension:
        """Read what the user wrote: true, a range or choices."""
        if wanted is True:
            return self.declared()
        if isinstance(wanted, str) and "..." in wanted:
            raise ConfigError(f"{self.subject} is {short(repr(wanted))}; a range has two dots, such as 0.1..1.")
        if isinstance(wanted, str) and (found := RANGE.fullmatch(wanted.strip())):
            low, high, log, step = found.groups()
            try:
                return self.over(Tuned(float(low), float(high), bool(log), float(step) if step else None))
            except ValueError as error:
                raise ConfigError(f"{self.subject} is {wanted!r}; {error}.") from None
        if isinstance(wanted, str) and ".." not in wanted:
            wanted = [part.strip() for part in wanted.split(",")]
        if not isinstance(wanted, list):
            raise ConfigError(f"{self.subject} is {short(repr(wanted))}; give {FORMS}, or true for its own range.")
        return self.among(wanted)

    def declared(self) -> Dimension:
        """Take the range that the option declares; that of a Literal or a bool is its choices."""
        if self.option.tuned and not self.option.tuned.of_choices:
            return self.over(self.option.tuned)
        if words := _words(self.option):
            return Dimension(self.name, self.default, choices=words)
        raise ConfigError(f"{self.subject} declares no range of its own; give {FORMS}.")

    def over(self, wanted: Tuned) -> Dimension:
        """Take a range of numbers, which must lie within the option's bounds."""
        kinds = [kind for kind in _members(self.option.hint) if kind in (int, float)]
        if not kinds:
            example = ", ".join(map(written, _words(self.option))) or "one, other"
            raise ConfigError(
                f'{self.subject} has no range, as it takes {self.option.type}; give choices: "{example}".'
            )
        whole = float not in kinds
        low, high, step = wanted.low, wanted.high, wanted.step
        if whole and any(number is not None and number != int(number) for number in (low, high, step)):
            raise ConfigError(f"{self.subject} takes whole numbers, and {wanted} has others.")
        for end, number in (("low", low), ("high", high)):
            self._checked(int(number) if whole else number, f"the {end} end of {wanted}")
        if step:
            high = low + math.floor((high - low) / step + 1e-9) * step
        return Dimension(self.name, self.default, Tuned(low, high, wanted.log, step), whole)

    def among(self, values: Sequence[Any]) -> Dimension:
        """Take choices, each of which must be a value of the option."""
        found = [self._checked(value, "a choice") for value in values]
        for number, choice in enumerate(found):
            if choice in found[:number]:
                raise ConfigError(f"{self.subject} has the choice {written(choice)} twice.")
        if len(found) < 2:
            said = written(found[0]) if found else "empty"
            raise ConfigError(f"{self.subject} is {said}, and a search needs two choices at least.")
        dimension = Dimension(self.name, self.default, choices=found)
        return replace(dimension, choices=sorted(found)) if dimension.ordered else dimension

    def _checked(self, value: Any, what: str) -> Any:
        return _checked(self.option, value, self.subject, what)


def _asked(settings: Settings, name: str, owner: str) -> _Asked:
    """Find the option of this name, and its value where nothing is searched."""
    plugin, dot, rest = name.partition(".")
    if not dot:
        return _Asked(_setting(settings, name, owner), getattr(settings, name), name, f"{owner}: {name}")
    if plugin in SEARCHED:
        raise ConfigError(f"{owner}: {plugin} is a setting, and no table; give {FORMS}, or true for its own range.")
    if plugin not in settings.plugins:
        catalog.summary(plugin)  # a plugin that there is not
        raise ConfigError(f"{owner}: {name} belongs to a plugin that no trial has; add --plugin {plugin}.")
    own, _, key = rest.partition(".")
    known = _options(plugin)
    if own not in known or (key and not _is_table(known[own])):
        raise ConfigError(
            f"{owner}: there is no option '{name}'. {nearest(name, [f'{plugin}.{each}' for each in known])}"
        )
    option, value = known[own], settings.plugins[plugin].get(own, known[own].default)
    if own == option_values.WEIGHT and option_values.share(plugin, settings.plugins[plugin]):
        raise ConfigError(
            f"{owner}: regkit chooses {name}, which is {value}; leave it out, or give a number to begin with."
        )
    if get_origin(option.hint) is list:
        raise ConfigError(f"{owner}: {name} is a list, and a search varies numbers, words and switches.")
    if value is not option.default:
        value = _checked(option, value, f"'{plugin}'", own)
    if _is_table(option):
        option, value = _entry(option, value, key, name, owner)
    return _Asked(option, value, name, f"{owner}: {name}")


def _entry(option: Option, table: Any, key: str, name: str, owner: str) -> tuple[Option, Any]:
    """Find an entry of an option that is a table, such as `weights.sst`."""
    entries = {} if table is MISSING else table
    if key not in entries:
        plugin = name.partition(".")[0]
        names = [f"{plugin}.{option.name}.{each}" for each in entries]
        raise ConfigError(f"{owner}: '{name}' has no value to begin with. {nearest(name, names)}")
    return replace(option, hint=get_args(option.hint)[1]), entries[key]


def _setting(settings: Settings, name: str, owner: str) -> Option:
    known = all_settings()
    if name in SEARCHED:
        return known[name]
    if name in known:
        raise ConfigError(f"{owner}: {name} is the same in all trials. Searched can be: {', '.join(SEARCHED)}.")
    others = [f"{plugin}.{each}" for plugin in settings.plugins for each in _options(plugin)]
    raise ConfigError(f"{owner}: there is no option '{name}'. {nearest(setting_called(name), [*SEARCHED, *others])}")


def _options(plugin: str) -> Mapping[str, Option]:
    return (
        option_fields.options(catalog.load_class(plugin))
        if plugin in uninstalled.handed()
        else catalog.shown_options(plugin)
    )


def _is_table(option: Option) -> bool:
    return get_origin(option.hint) is dict


def _members(hint: Any) -> list[Any]:
    """List the types that a value may have, without bounds and without none."""
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [kind for part in get_args(hint) for kind in _members(part)]
    return [] if hint is type(None) else [hint]


def _words(option: Option) -> list[Any]:
    """List the choices of a Literal or a bool; none for other types."""
    found = list[Any]()
    for kind in _members(option.hint):
        found += get_args(kind) if get_origin(kind) is Literal else [False, True] if kind is bool else []
    return found


def _checked(option: Option, value: Any, subject: str, what: str) -> Any:
    """Check a value by the option's own bounds, and convert text. ConfigError says what is needed."""
    try:
        return convert(option.hint, value)
    except ValidationError as error:
        raise ConfigError(explain(error, subject, (), what)) from None
