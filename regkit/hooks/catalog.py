"""Catalog: which plugins are installed, what options they have, and how one is made from what the user wrote."""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from regkit.base.errors import PluginError, RegkitError, explain, nearest
from regkit.base.failures import last_line

GROUP = "regkit.plugins"
STAGES = "stages"  # the option of every plugin: the stages in which it acts


@dataclass(frozen=True)
class Option:
    """A field of a plugin: what `--plugin name:option=value` may set."""

    name: str
    hint: Any  # the annotation, constraints included
    default: Any  # MISSING where the user must choose
    meaning: str  # the string below the field

    @property
    def type(self) -> str:
        """The annotation in words: `float`, `longest or shortest`."""
        return _in_words(self.hint)


def _in_words(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _in_words(parts[0])
    if origin in (Literal, Union, UnionType):
        return " or ".join(part if isinstance(part, str) else _in_words(part) for part in parts)
    if hint is type(None):
        return "none"
    return getattr(origin or hint, "__name__", str(hint))


def installed() -> dict[str, EntryPoint]:
    """Every installed plugin's entry point by name; nothing is imported."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP)):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise PluginError(f"two installed packages offer a plugin '{point.name}': {other.value} and {point.value}.")
    return found


def load_class(name: str) -> type:
    """Import the plugin of this name; PluginError where it is not installed, cannot be imported or is no dataclass."""
    points = installed()
    if name not in points:
        raise PluginError(f"there is no plugin '{name}'. {nearest(name, points)}")
    try:
        found = points[name].load()
    except Exception as error:  # whatever a stranger's module raises
        raise PluginError(f"plugin '{name}' ({points[name].value}) cannot be imported: {last_line(error)}.") from error
    if not (isinstance(found, type) and is_dataclass(found)):
        raise PluginError(f"plugin '{name}': {points[name].value} is not a dataclass.")
    if STAGES in (field.name for field in fields(found)):
        raise PluginError(f"plugin '{name}': every plugin has an option '{STAGES}'; call its own by another name.")
    return found


def options(plugin: type) -> dict[str, Option]:
    """The options of a plugin's class, in the order of its fields."""
    hints, meanings = get_type_hints(plugin, include_extras=True), _meanings(plugin)
    found = {}
    for field in fields(plugin):
        if field.init:
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            found[field.name] = Option(field.name, hints[field.name], default, meanings.get(field.name, ""))
    return found


def summary(name: str) -> tuple[str, str]:
    """The first line of the docstring of the plugin's module, or else of its class, and the rest of it."""
    plugin = load_class(name)
    text = inspect.getdoc(inspect.getmodule(plugin)) or inspect.getdoc(plugin) or ""
    first, _, rest = text.partition("\n")
    return first, rest.strip()


def acts_in(name: str, given: Mapping[str, Any]) -> list[str] | None:
    """The stages that the option `stages` names, which every plugin has; None where it is not given."""
    option = Option(STAGES, list[str], None, "")
    return _checked(name, option, given[STAGES]) if STAGES in given else None


def make(name: str, given: Mapping[str, Any]) -> Any:
    """The plugin's one instance for a run. Pydantic checks each option; text from the command line is converted."""
    plugin = load_class(name)
    known = options(plugin)
    given = {option: value for option, value in given.items() if option != STAGES}
    for option in given:
        if option not in known:
            raise PluginError(f"'{name}' has no option '{option}'. {nearest(option, [*known, STAGES])}")
    for needed in known.values():
        if needed.default is MISSING and needed.name not in given:
            raise PluginError(f"'{name}' needs {needed.name}: --plugin {name}:{needed.name}={needed.type.upper()}.")
    checked = {option: _checked(name, known[option], value) for option, value in given.items()}
    try:
        return plugin(**checked)
    except ValueError as error:  # a check of the plugin's own, in __post_init__
        raise PluginError(f"'{name}': {error}.") from None
    except RegkitError:
        raise
    except Exception as error:
        raise PluginError(f"plugin '{name}' failed when it was made: {last_line(error)}.") from error


def chosen(name: str, plugin: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as the plugin has them: numbers, not text."""
    return {key: acts_in(name, given) if key == STAGES else getattr(plugin, key) for key in given}


def strengths(plugin: object) -> Mapping[str, float]:
    """The options that set how strongly a plugin acts, each with the value at which it does nothing.

    Those of its class attribute `neutral`, or else `weight` at 0.
    """
    found: Mapping[str, float] | None = getattr(plugin, "neutral", None)
    if found is None:
        return {"weight": 0.0} if hasattr(plugin, "weight") else {}
    return found


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """`name:key=value,key=value` from the command line; a value may be a JSON list or object."""
    name, _, rest = text.partition(":")
    given: dict[str, Any] = {}
    for part in re.split(r",(?=\s*\w+\s*=)", rest) if rest else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise PluginError(f"--plugin {text}: '{part}' is not of the form option=value.")
        if key in given:
            raise PluginError(f"--plugin {text}: {key} is given twice.")
        given[key] = _value(value)
    return name.strip(), given


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text[:1] in ("[", "{") else text
    except (ValueError, RecursionError):
        return text


def _checked(name: str, option: Option, value: Any) -> Any:
    if isinstance(value, str) and get_origin(option.hint) is list:
        value = [part.strip() for part in value.split(",")]
    try:
        return TypeAdapter(option.hint, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        raise PluginError(explain(error, f"'{name}'", (), option.name)) from None


def _meanings(plugin: type) -> dict[str, str]:
    """The string below each field, which Python itself forgets."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(plugin))).body[0]
    except (OSError, TypeError, SyntaxError):  # no source at hand
        return {}
    found = {}
    statements = getattr(body, "body", [])
    for field, text in pairwise(statements):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found
