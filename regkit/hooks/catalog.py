"""Catalog: find the installed plugins, tell what each is, and make one from what the user wrote."""

import inspect
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from regkit.base.described import Option
from regkit.base.errors import PluginError, nearest
from regkit.base.failures import last_line
from regkit.hooks import contract, kinds, option_fields, option_values, source, uninstalled
from regkit.hooks.files import PluginFile, named
from regkit.hooks.following import LOG
from regkit.hooks.option_values import OF_ALL

GROUP = "regkit.plugins"
IN_A_PATH = re.compile(r"[/\\]|\.py", re.IGNORECASE)  # what a path has, and no plugin's name
DOTTED = re.compile(r"\s*(\w+)\.(\w+)(?:\.(\w+))?\s*=\s*(.*)", re.DOTALL)  # an option as TOML writes it


def allowed(text: str) -> str:
    """Let a file that is named as a plugin be run, and name it as if it were installed.

    Of `./mine.py:Mine:weight=2` that is `mine:weight=2`; any other text stays as it is. Nothing is run yet. Raises
    PluginError.
    """
    if found := read_file(text):
        file, text = found
        uninstalled.allow(file)
    return text


def allowance(hook: str = "") -> list[str]:
    """List the words by which another command may run the code that this one may run.

    Of a `hook`, they are those of the plugins that answer it: a command that needs a run's model alone needs `build`.
    """
    files = uninstalled.files()
    needed = [file for name, file in files.items() if not hook or hook in _hooks(_methods(name))]
    return [word for file in needed for word in ("-p", file.value)]


def read_file(text: str) -> tuple[PluginFile, str] | None:
    """Read a plugin in a file, and what names it as if it were installed.

    Of `./mine.py:Mine:weight=2` that is `mine:weight=2`. None for any other plugin. Raises PluginError for a file without
    such a plugin, and for one whose name is taken.
    """
    found = named(text)
    if found is None:
        return None
    file = PluginFile.read(found.path, found.kind)
    if file.name in installed():
        raise PluginError(
            f"{found.path}: {file.attr} would be plugin '{file.name}', which is installed: call the class by another name."
        )
    return file, f"{file.name}:{found.options}".rstrip(":")


def installed() -> dict[str, EntryPoint]:
    """List the entry points of the installed plugins by name; nothing is imported."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP)):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise PluginError(f"two installed packages offer a plugin '{point.name}': {other.value} and {point.value}.")
    return found


def load_class(name: str) -> type:
    """Import the plugin of this name. PluginError where it is missing, broken or no dataclass."""
    own = uninstalled.handed().get(name)
    found, where = (own, own.__qualname__) if own else _load(name)
    if not (isinstance(found, type) and is_dataclass(found)):
        raise PluginError(f"plugin '{name}': {where} is not a dataclass.")
    for option in OF_ALL:
        if option in (field.name for field in fields(found)):
            raise PluginError(f"plugin '{name}': every plugin has an option '{option}'; call its own by another name.")
    return found


def _load(name: str) -> tuple[Any, str]:
    """Import what an entry point names; also returns where that is."""
    point = _point(name)
    try:
        return point.load(), point.value
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises
        raise PluginError(f"plugin '{name}' ({point.value}) cannot be imported: {last_line(error)}.") from error


def _point(name: str) -> source.Point:
    points: Mapping[str, source.Point] = {**installed(), **uninstalled.files()}
    if name in points:
        return points[name]
    if named(name):
        raise PluginError(f"{name} is code in a file, which only the command line may name: --plugin {name}.")
    if IN_A_PATH.search(name):
        raise PluginError(
            f"there is no plugin '{name}'; one in a file is named by its path, which ends in .py, and by its class if the "
            "file has several: ./mine.py:Mine."
        )
    raise PluginError(f"there is no plugin '{name}'. {nearest(name, [*points, *uninstalled.handed()])}")


def shown_options(name: str) -> Mapping[str, Option]:
    """List the options of the plugin of this name, which is imported only if its source does not tell."""
    if found := source.read(_point(name)):
        try:
            return found.fields()
        except source.UnclearError:
            pass
    return option_fields.options(load_class(name))


def summary(name: str, point: source.Point | None = None) -> tuple[str, str]:
    """Split the docstring of the plugin's module, or else of its class, into its first line and the rest.

    Whoever lists all plugins has each one's entry point already, and hands it in: to find it takes 10 milliseconds.
    """
    text = source.docstring(point or _point(name))
    if text is None:
        plugin = load_class(name)
        text = inspect.getdoc(inspect.getmodule(plugin)) or inspect.getdoc(plugin) or ""
        text = "" if text.startswith(f"{plugin.__name__}(") else text  # what dataclasses writes where nobody has
    first, _, rest = text.partition("\n")
    return first, rest.strip()


def check_names(name: str, given: Mapping[str, Any]) -> None:
    """Check that a plugin is there, fits this contract, has the given options, and gets those it needs.

    Nothing is checked here that only the imported plugin tells: `make` checks that, and the values. Raises PluginError.
    """
    option_values.check_code(name, given)
    try:
        found = None if name in uninstalled.handed() else source.read(_point(name))
        contract.check(name, found and found.constant(contract.ATTRIBUTE))
        known = found.fields() if found else None
    except source.UnclearError:
        return
    if found is None or known is None:
        return
    for option in found.untyped().intersection(given):
        raise PluginError(f"'{name}' has no option '{option}': it needs a type in the class, as in {option}: float.")
    option_fields.check_names(name, known, given)


def only_follows(name: str) -> bool:
    """Whether a plugin only follows the run's log, as trackers do.

    It takes no part in training, and has no state. It is imported only if its source does not tell. Raises PluginError as
    `load_class` does.
    """
    methods = _methods(name)
    hooks = _hooks(methods)
    return bool(hooks) and hooks.keys() <= set(LOG) and "state_dict" not in methods


def kind(name: str, point: source.Point | None = None) -> str:
    """Tell what a plugin is for, by the hooks that it answers.

    It is imported only if its source does not tell. Whoever lists all plugins hands in the entry point, as to `summary`.
    Raises PluginError as `load_class` does.
    """
    with suppress(source.UnclearError):
        if name not in uninstalled.handed() and (found := source.read(point or _point(name))):
            return kinds.kind_of(_hooks(found.methods()), found.constant(kinds.ATTRIBUTE))
    return kinds.kind_of(_hooks(_methods(name)), getattr(load_class(name), kinds.ATTRIBUTE, None))


def _hooks(methods: Mapping[str, str]) -> dict[str, str]:
    return {method: role for method, role in methods.items() if role}


def _methods(name: str) -> Mapping[str, str]:
    """List a plugin's methods by name, those of hooks by the hook's, with roles as in `Source.methods`."""
    with suppress(source.UnclearError):
        if name not in uninstalled.handed() and (found := source.read(_point(name))):
            return found.methods()
    methods = inspect.getmembers(load_class(name), inspect.isroutine)
    marks = {method: getattr(found, "regkit_impl", None) for method, found in methods}
    return {(mark or {}).get("specname") or method: _role(mark) for method, mark in marks.items()}


def _role(mark: Mapping[str, Any] | None) -> str:
    if mark is None:
        return ""
    return "wrapper" if mark["wrapper"] else "answer"


def make(name: str, given: Mapping[str, Any]) -> Any:
    """Make the plugin's one instance for a run. Pydantic checks each option and converts text."""
    option_values.check_code(name, given)
    plugin = load_class(name)
    known = option_fields.options(plugin)
    option_fields.check_names(name, known, given)
    option_fields.check_defaults(name, known, given)
    if option_values.share(name, given):
        option_fields.check_weight(name, plugin, _hooks(_methods(name)), given[option_values.WEIGHT])
        given = {**given, option_values.WEIGHT: 1.0}
    checked = {key: option_values.checked(name, known[key], value) for key, value in given.items() if key not in OF_ALL}
    made = option_values.construct(name, plugin, checked)
    if any(getattr(made, key) != value for key, value in checked.items()):
        option_values.check_remade(name, made, checked)
    return made


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Read `name:key=value,key=value` from the command line; a value may be a JSON list or object."""
    name, _, rest = text.partition(":")
    _check_no_dot(text)
    given: dict[str, Any] = {}
    for part in re.split(r",(?=\s*\w+\s*=)", rest) if rest else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise PluginError(f"--plugin {text}: '{part}' is not of the form option=value.")
        if key in given:
            raise PluginError(f"--plugin {text}: {key} is given twice.")
        given[key] = _value(value)
    return name.strip(), given


def _check_no_dot(text: str) -> None:
    """Raise PluginError for an option that is written as TOML and spaces write it.

    The error has the form that works.
    """
    found = DOTTED.fullmatch(text)
    if found is None:
        return
    name, option, key, value = found.groups()
    if name not in uninstalled.handed():
        _point(name)  # a plugin that there is not
    given = f'{option}={{"{key}": {value}}}' if key else f"{option}={value}"
    raise PluginError(f"--plugin {text}: an option follows a colon; write {name}:{given}.")


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text[:1] in ("[", "{") else text
    except (ValueError, RecursionError):
        return text
