"""Handed: take plugins from Python, as names, classes or objects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, NamedTuple

from pydantic_core import PydanticSerializationError, to_jsonable_python

from regkit.base.errors import PluginError, RegkitError, short
from regkit.base.failures import last_line
from regkit.hooks import catalog, option_fields, option_values, uninstalled
from regkit.hooks.files import PluginFile, in_small_letters
from regkit.hooks.implementations import implementations

FORMS = "a plugin is a name such as 'smart:weight=3', a file such as './mine.py', a class, or an object of one"


@dataclass
class Handed:
    """The options of each plugin by its name, in their order, and those that are not installed."""

    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    plugins: dict[str, type | PluginFile] = field(default_factory=dict)


def take(plugins: Iterable[object]) -> Handed:
    """Read names with options, classes and objects, of which a run makes its own.

    A class that no package offers is called by its name in small letters: `MyPlugin` is `my_plugin`. Raises PluginError for
    anything else, for a plugin given twice, for two classes of one name, and for an object that no run can make again of its
    options.
    """
    found = Handed()
    for given in _listed(plugins):
        name, options, own = _taken(given)
        if name in found.options:
            raise PluginError(f"plugin '{name}' is given twice; one plugin has one instance a run.")
        found.options[name] = options
        if own and name not in catalog.installed():
            found.plugins[name] = own
    return found


def _taken(given: object) -> tuple[str, dict[str, Any], type | PluginFile | None]:
    """Read one plugin: its name, its options, and what stands for it if no package does."""
    if not isinstance(given, str):
        return *_described(given), given if isinstance(given, type) else type(given)
    if found := catalog.read_file(given):
        file, text = found
        name, options = catalog.parse(text)
        return name, {option_values.CODE: file.record} | options, file
    return *catalog.parse(given), None


def _listed(plugins: object) -> Iterable[object]:
    if isinstance(plugins, str | Mapping) or not isinstance(plugins, Iterable):
        raise PluginError(f"plugins is {short(repr(plugins))}; it needs a list, and {FORMS}.")
    return plugins


def _described(plugin: object) -> tuple[str, dict[str, Any]]:
    """Find the name of a plugin and those of its options that are not as its class has them."""
    made = None if isinstance(plugin, type) else plugin
    kind = plugin if isinstance(plugin, type) else type(plugin)
    if not is_dataclass(kind):
        raise PluginError(
            f"{_shown(plugin)} is no plugin; a name, a dataclass with hooks or an object of it is needed."
        )
    name = _name(kind)
    if made is None:
        return name, {}
    given = [each for each in fields(kind) if each.init and not _as_by_default(name, each, made)]
    options = {each.name: getattr(made, each.name) for each in given}
    option_values.check_remade(name, made, options)
    return name, options


def _as_by_default(name: str, option: Field[Any], plugin: object) -> bool:
    """Whether an option is as its class has it.

    Raises PluginError for a value that no file of settings could hold.
    """
    value = getattr(plugin, option.name)
    if value is option.default:
        return True
    try:
        to_jsonable_python(value)
    except PydanticSerializationError:
        kind = type(value).__name__
        raise PluginError(
            f"'{name}': {option.name} is a {kind}; a run records its options, so a number, a text, or a list or table of "
            "these is needed."
        ) from None
    default = option.default if option.default_factory is MISSING else option.default_factory()
    return default is not MISSING and bool(value == default)


def _name(kind: type) -> str:
    """Name a class as its package does, or else by its own name in small letters."""
    here = f"{kind.__module__}:{kind.__qualname__}"
    points: Mapping[str, Any] = catalog.installed()
    own = in_small_letters(kind.__name__)
    name = next((name for name, point in points.items() if point.value == here), own)
    if name in points and points[name].value != here:
        raise PluginError(
            f"{kind.__name__} would be plugin '{name}', which is installed: call the class by another name."
        )
    return name


def _shown(plugin: object) -> str:
    return plugin.__name__ if isinstance(plugin, type) else repr(plugin)


class Made(NamedTuple):
    """Plugins by name, in order; the stages in which some act; the shares at which some are held."""

    plugins: Mapping[str, Any]
    stages: Mapping[str, Sequence[str]]
    shares: Mapping[str, float]  # of the gradient, for `weight=auto`


def make(plugins: Iterable[object]) -> Made:
    """Make the plugins that `take` reads; an object is used as it is, and need not be of a dataclass.

    Raises PluginError for one that is unknown, given twice, or has a wrong option.
    """
    found, stages, shares = dict[str, Any](), dict[str, Sequence[str]](), dict[str, float]()
    for given in _listed(plugins):
        name, plugin, options = _made(given)
        if name in found:
            raise PluginError(f"plugin '{name}' is given twice; keep one of them.")
        found[name] = plugin
        if (acts_in := option_values.acts_in(name, options)) is not None:
            stages[name] = acts_in
        if share := option_values.share(name, options):
            shares[name] = share
    return Made(found, stages, shares)


def _made(given: object) -> tuple[str, Any, Mapping[str, Any]]:
    """Make one plugin: its name, the object, and the options that were named with it."""
    if isinstance(given, str):
        name, options, file = _taken(given)
        with uninstalled.handing({name: file} if file else {}):
            return name, catalog.make(name, options), options
    kind = given if isinstance(given, type) else type(given)
    if not implementations(kind):
        raise PluginError(f"plugins has {short(repr(given))}, which attaches to no hook; {FORMS}.")
    name = _name(kind)
    plugin = _instance(name, kind) if given is kind else given
    if is_dataclass(kind):
        option_fields.check_options(name, plugin)
    return name, plugin, {}


def _instance(name: str, kind: type) -> Any:
    known = option_fields.options(kind) if is_dataclass(kind) else {}
    if needed := [each.name for each in known.values() if each.default is MISSING]:
        raise PluginError(f"'{name}' needs {needed[0]}: give {kind.__name__}({needed[0]}=...) in place of the class.")
    try:
        return kind()
    except RegkitError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's class raises
        raise PluginError(f"plugin '{name}' failed when it was made: {last_line(error)}.") from error
