"""Catalog: find the installed plugins and their options, and make one from what the user wrote."""

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from regkit.base.described import Option, meanings
from regkit.base.errors import PluginError, RegkitError, explain, nearest, short
from regkit.base.failures import in_one_line, last_line
from regkit.hooks import contract, kinds, source
from regkit.hooks.files import PluginFile, check_record, named
from regkit.hooks.following import LOG

GROUP = "regkit.plugins"
IN_A_PATH = re.compile(r"[/\\]|\.py", re.IGNORECASE)  # what a path has, and no plugin's name
DOTTED = re.compile(r"\s*(\w+)\.(\w+)(?:\.(\w+))?\s*=\s*(.*)", re.DOTALL)  # an option as TOML writes it
STAGES = "stages"  # the option of every plugin: the stages in which it acts
CODE = "code"  # beside the options of a plugin in a file: what a run notes of it
OF_ALL = (STAGES, CODE)  # what is no field of a plugin


class UncheckableError(PluginError):
    """Report an option of a type that pydantic does not know."""


_handed: ContextVar[Mapping[str, type | PluginFile]] = ContextVar(
    "handed", default=MappingProxyType({})
)  # plugins beside the installed ones


@contextmanager
def handing(plugins: Mapping[str, type | PluginFile]) -> Iterator[None]:
    """Know these by name inside the block, as if they were installed.

    They are classes of a notebook's cells, and files.
    """
    token = _handed.set({**_handed.get(), **plugins})
    try:
        yield
    finally:
        _handed.reset(token)


def handed() -> Mapping[str, type]:
    """List the classes beside the installed ones by name."""
    return {name: plugin for name, plugin in _handed.get().items() if isinstance(plugin, type)}


def files() -> Mapping[str, PluginFile]:
    """List the plugins in files that the user named by name; no other code in a file is run."""
    return {name: plugin for name, plugin in _handed.get().items() if isinstance(plugin, PluginFile)}


def allow(file: PluginFile) -> None:
    """Let the code of a file be run, until the present context ends.

    Raises PluginError if another file has a plugin of its name.
    """
    other = files().get(file.name, file)
    if other.value != file.value:
        raise PluginError(
            f"two files offer a plugin '{file.name}': {other.value} and {file.value}; call one class by another name."
        )
    _handed.set({**_handed.get(), file.name: file})


def allowed(text: str) -> str:
    """Let a file that is named as a plugin be run, and name it as if it were installed.

    Of `./mine.py:Mine:weight=2` that is `mine:weight=2`; any other text stays as it is. Nothing is run yet. Raises
    PluginError.
    """
    if found := read_file(text):
        file, text = found
        allow(file)
    return text


def allowance(hook: str = "") -> list[str]:
    """List the words by which another command may run the code that this one may run.

    Of a `hook`, they are those of the plugins that answer it: a command that needs a run's model alone needs `build`.
    """
    needed = [file for name, file in files().items() if not hook or hook in _hooks(_methods(name))]
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


def noted(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Note beside the options of a plugin in a file which code it is, unless that is noted already."""
    return ({CODE: files()[name].record} if name in files() else {}) | dict(options)


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
    own = handed().get(name)
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
    points: Mapping[str, source.Point] = {**installed(), **files()}
    if name in points:
        return points[name]
    if named(name):
        raise PluginError(f"{name} is code in a file, which only the command line may name: --plugin {name}.")
    if IN_A_PATH.search(name):
        raise PluginError(
            f"there is no plugin '{name}'; one in a file is named by its path, which ends in .py, and by its class if the "
            "file has several: ./mine.py:Mine."
        )
    raise PluginError(f"there is no plugin '{name}'. {nearest(name, [*points, *handed()])}")


def options(plugin: type) -> dict[str, Option]:
    """List the options of a plugin's class, in the order of its fields.

    Raises PluginError for one whose type is not known when the program runs.
    """
    said = meanings(plugin)
    found = {}
    for field in fields(plugin):
        if field.init:
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            found[field.name] = Option(field.name, _hint(plugin, field.name), default, said.get(field.name, ""))
    return found


def _hint(plugin: type, name: str) -> Any:
    """Read the type of one option. That of a state may be known to a type checker alone, and is not read."""
    owner = next(each for each in plugin.__mro__ if name in inspect.get_annotations(each))
    alone = {"__annotations__": {name: inspect.get_annotations(owner)[name]}, "__module__": owner.__module__}
    try:
        return get_type_hints(type(owner.__name__, (), alone), include_extras=True)[name]
    except Exception as error:  # whatever the annotation comes to
        raise PluginError(
            f"{plugin.__name__}: the type of its option {name} cannot be read: {last_line(error)}; give it a type that is "
            "imported when the program runs."
        ) from None


def shown_options(name: str) -> Mapping[str, Option]:
    """List the options of the plugin of this name, which is imported only if its source does not tell."""
    if found := source.read(_point(name)):
        try:
            return found.fields()
        except source.UnclearError:
            pass
    return options(load_class(name))


def summary(name: str, point: source.Point | None = None) -> tuple[str, str]:
    """Split the docstring of the plugin's module, or else of its class, into its first line and the rest.

    Whoever lists all plugins has each one's entry point already, and hands it in: to find it takes 10 milliseconds.
    """
    text = source.docstring(point or _point(name))
    if text is None:
        plugin = load_class(name)
        text = inspect.getdoc(inspect.getmodule(plugin)) or inspect.getdoc(plugin) or ""
    first, _, rest = text.partition("\n")
    return first, rest.strip()


def check_names(name: str, given: Mapping[str, Any]) -> None:
    """Check that a plugin is there, fits this contract, has the given options, and gets those it needs.

    Nothing is checked here that only the imported plugin tells: `make` checks that, and the values. Raises PluginError.
    """
    check_code(name, given)
    try:
        found = None if name in handed() else source.read(_point(name))
        contract.check(name, found and found.constant(contract.ATTRIBUTE))
        known = found.fields() if found else None
    except source.UnclearError:
        return
    if known is not None:
        _check_names(name, known, given)


def acts_in(name: str, given: Mapping[str, Any]) -> list[str] | None:
    """Read the option `stages` of every plugin: the stages in which it acts. None where it is not given."""
    option = Option(STAGES, list[str], None, "")
    return _checked(name, option, given[STAGES]) if STAGES in given else None


def only_follows(name: str) -> bool:
    """Whether a plugin takes no part in training, has no state, and only follows the run's log, as trackers do.

    It is imported only if its source does not tell. Raises PluginError as `load_class` does.
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
        if name not in handed() and (found := source.read(point or _point(name))):
            return kinds.kind_of(_hooks(found.methods()), found.constant(kinds.ATTRIBUTE))
    return kinds.kind_of(_hooks(_methods(name)), getattr(load_class(name), kinds.ATTRIBUTE, None))


def _hooks(methods: Mapping[str, str]) -> dict[str, str]:
    return {method: role for method, role in methods.items() if role}


def _methods(name: str) -> Mapping[str, str]:
    """List a plugin's methods by name, those of hooks by the hook's, with roles as in `Source.methods`."""
    with suppress(source.UnclearError):
        if name not in handed() and (found := source.read(_point(name))):
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
    check_code(name, given)
    plugin = load_class(name)
    known = options(plugin)
    _check_names(name, known, given)
    checked = {key: _checked(name, known[key], value) for key, value in given.items() if key not in OF_ALL}
    made = _construct(name, plugin, checked)
    if any(getattr(made, key) != value for key, value in checked.items()):
        check_remade(name, made, checked)
    return made


def check_remade(name: str, plugin: Any, options: Iterable[str]) -> None:
    """Raise PluginError if one that is made of the options that this plugin holds would hold others.

    A run records what its plugin holds, and makes the plugin of it when it goes on.
    """
    held = {key: getattr(plugin, key) for key in options}
    remade = _construct(name, type(plugin), held)
    for option in fields(plugin):
        was, now = (getattr(each, option.name) for each in (plugin, remade))
        if option.init and was != now:
            raise PluginError(
                f"plugin '{name}' changes its option {option.name} when it is made: of {short(repr(was))} it makes "
                f"{short(repr(now))}, so no run could go on with it; keep what it computes in a field with init=False."
            )


def _construct(name: str, kind: type[Any], options: Mapping[str, Any]) -> Any:
    try:
        return kind(**options)
    except ValueError as error:  # a check of the plugin's own, in __post_init__
        raise PluginError(f"'{name}': {in_one_line(error).rstrip('.')}.") from None
    except RegkitError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"plugin '{name}' failed when it was made: {last_line(error)}.") from error


def check_options(name: str, plugin: Any) -> None:
    """Check the options of a plugin that was made in Python, as `make` checks what the command line gives."""
    for option in options(type(plugin)).values():
        with suppress(UncheckableError):  # only the plugin can check it
            _checked(name, option, getattr(plugin, option.name))


def check_code(name: str, given: Mapping[str, Any]) -> None:
    """Raise PluginError if the options note code that the user has not named, or that has changed since."""
    if CODE in given:
        check_record(name, given[CODE], files().get(name))


def _check_names(name: str, known: Mapping[str, Option], given: Mapping[str, Any]) -> None:
    for option in given:
        if option not in known and option not in OF_ALL:
            raise PluginError(f"'{name}' has no option '{option}'. {nearest(option, [*known, STAGES])}")
    for needed in known.values():
        if needed.default is MISSING and needed.name not in given:
            raise PluginError(f"'{name}' needs {needed.name}: --plugin {name}:{needed.name}={needed.type.upper()}.")


def chosen(name: str, plugin: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Read back the options that were given, as the plugin holds them: numbers, not text.

    Of a plugin in a file, its code is noted with them.
    """
    held = {key: getattr(plugin, key) for key in given if key not in OF_ALL}
    stages = {STAGES: acts_in(name, given)} if STAGES in given else {}
    return noted(name, held | stages)


def held(name: str, plugin: Any) -> dict[str, Any]:
    """Read all options that a plugin holds, in a form that JSON has, with the code of one in a file.

    Raises PluginError for an option that JSON has no form for.
    """
    known = fields(plugin) if is_dataclass(plugin) else ()  # a plugin without options need not be one inside a test
    options = {each.name: getattr(plugin, each.name) for each in known if each.init}
    try:
        found: dict[str, Any] = to_jsonable_python(options, inf_nan_mode="strings")
    except PydanticSerializationError as error:
        raise PluginError(f"'{name}' has an option that no checkpoint can record: {last_line(error)}.") from None
    return noted(name, found)


def strengths(plugin: object) -> Mapping[str, float]:
    """List the options that set how strongly a plugin acts, each with the value at which it does nothing.

    They are those of its class attribute `neutral`, or else `weight` at 0.
    """
    found: Mapping[str, float] | None = getattr(plugin, "neutral", None)
    if found is None:
        return {"weight": 0.0} if hasattr(plugin, "weight") else {}
    return found


def needs_whole_batches(plugin: object) -> bool:
    """Whether a plugin compares the examples of a batch, which then must not be cut: `whole_batches`."""
    return bool(getattr(plugin, "whole_batches", False))


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
    """Raise PluginError, with the form that works, for an option that is written as TOML and spaces write it."""
    found = DOTTED.fullmatch(text)
    if found is None:
        return
    name, option, key, value = found.groups()
    if name not in handed():
        _point(name)  # a plugin that there is not
    given = f'{option}={{"{key}": {value}}}' if key else f"{option}={value}"
    raise PluginError(f"--plugin {text}: an option follows a colon; write {name}:{given}.")


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
    except PydanticUserError:
        raise UncheckableError(
            f"'{name}': {option.name} is a {option.type}, which no text stands for; leave it as it is, or give the option "
            "another type."
        ) from None
