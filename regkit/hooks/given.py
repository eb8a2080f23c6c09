"""Given: make plugins of what a program hands in - names with options, classes, and objects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, is_dataclass
from typing import Any, NamedTuple

from regkit.base.errors import PluginError, RegkitError, short
from regkit.base.failures import last_line
from regkit.hooks import catalog
from regkit.hooks.attach import implementations

FORMS = "a plugin is a name such as 'smart:weight=3', a class, or an object of one"


class Given(NamedTuple):
    """The plugins of a program by name, in its order, and the stages in which some of them shall act."""

    plugins: Mapping[str, Any]
    stages: Mapping[str, Sequence[str]]


def gather(given: Iterable[Any]) -> Given:
    """Make the plugins. Raises PluginError for one that is unknown, named twice, or has a wrong option."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise PluginError(f"plugins is {short(repr(given))}; it needs a list, and {FORMS}.")
    plugins: dict[str, Any] = {}
    stages: dict[str, Sequence[str]] = {}
    for each in given:
        name, plugin, acts_in = _made(each)
        if name in plugins:
            raise PluginError(f"'{name}' is named twice; keep one of them.")
        plugins[name] = plugin
        if acts_in is not None:
            stages[name] = acts_in
    return Given(plugins, stages)


def _made(given: Any) -> tuple[str, Any, Sequence[str] | None]:
    """Make one plugin: its name, the object, and the stages that were asked for."""
    if isinstance(given, str):
        name, values = catalog.parse(given)
        return name, catalog.make(name, values), catalog.acts_in(name, values)
    kind = given if isinstance(given, type) else type(given)
    if not implementations(kind):
        raise PluginError(f"plugins has {short(repr(given))}, which attaches to no hook; {FORMS}.")
    name = _name_of(kind)
    plugin = _instance(name, kind) if given is kind else given
    if is_dataclass(kind):
        catalog.check_options(name, plugin)
    return name, plugin, None


def _name_of(kind: type) -> str:
    """Find the name under which a class is installed, or else write its own in small letters."""
    place = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, point in catalog.installed().items() if point.value == place), kind.__name__.lower())


def _instance(name: str, kind: type) -> Any:
    needed = (
        [each.name for each in catalog.options(kind).values() if each.default is MISSING] if is_dataclass(kind) else []
    )
    if needed:
        raise PluginError(f"'{name}' needs {needed[0]}: give {kind.__name__}({needed[0]}=...) in place of the class.")
    try:
        return kind()
    except RegkitError:
        raise
    except Exception as error:  # whatever a stranger's class raises
        raise PluginError(f"plugin '{name}' failed when it was made: {last_line(error)}.") from error
