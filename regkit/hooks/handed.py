"""Handed: take plugins from Python - names, classes or objects - as a run's settings have them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any

from regkit.base.errors import PluginError
from regkit.hooks import catalog


@dataclass
class Handed:
    """The options of each plugin by its name, in their order, and the classes that are not installed."""

    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    classes: dict[str, type] = field(default_factory=dict)


def take(plugins: Iterable[object]) -> Handed:
    """Read `"smart:weight=3"`, a plugin's class, or an object of it: a run makes one of its own with the same options.

    A class that no package offers is called by its name in small letters: `MyPlugin` is `my_plugin`. Raises PluginError for
    anything else, for a plugin given twice, and for two classes of one name.
    """
    found = Handed()
    for given in plugins:
        name, options = catalog.parse(given) if isinstance(given, str) else _described(given)
        if name in found.options:
            raise PluginError(f"plugin '{name}' is given twice; one plugin has one instance a run.")
        found.options[name] = options
        if not isinstance(given, str) and name not in catalog.installed():
            found.classes[name] = given if isinstance(given, type) else type(given)
    return found


def _described(plugin: object) -> tuple[str, dict[str, Any]]:
    """Find the name of a plugin and those of its options that are not as its class has them."""
    made = None if isinstance(plugin, type) else plugin
    kind = plugin if isinstance(plugin, type) else type(plugin)
    if not is_dataclass(kind):
        raise PluginError(
            f"{_shown(plugin)} is no plugin; a name, a dataclass with hooks or an object of it is needed."
        )
    given = [each for each in fields(kind) if each.init and made is not None]
    return _name(kind), {each.name: getattr(made, each.name) for each in given if not _as_by_default(each, made)}


def _as_by_default(option: Field[Any], plugin: object) -> bool:
    default = option.default if option.default_factory is MISSING else option.default_factory()
    return default is not MISSING and bool(getattr(plugin, option.name) == default)


def _name(kind: type) -> str:
    """Name a class as its package does, or else by its own name in small letters."""
    here = f"{kind.__module__}:{kind.__qualname__}"
    points: Mapping[str, Any] = catalog.installed()
    own = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__).lower()
    name = next((name for name, point in points.items() if point.value == here), own)
    if name in points and points[name].value != here:
        raise PluginError(
            f"{kind.__name__} would be plugin '{name}', which is installed: call the class by another name."
        )
    return name


def _shown(plugin: object) -> str:
    return plugin.__name__ if isinstance(plugin, type) else repr(plugin)
