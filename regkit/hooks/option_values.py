"""Option values: check what the options of a plugin are given, and read back what it holds."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import PydanticUserError, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from regkit.base.bounds import NONE, convert
from regkit.base.described import Option
from regkit.base.errors import PluginError, RegkitError, explain, short
from regkit.base.failures import in_one_line, last_line
from regkit.hooks import uninstalled
from regkit.hooks.files import check_record

STAGES = "stages"  # the option of every plugin: the stages in which it acts
CODE = "code"  # beside the options of a plugin in a file: what a run notes of it
WEIGHT = "weight"  # the option that scales a plugin's terms of the loss
AUTO = "auto"  # its value that leaves it to regkit
SEVERAL = {"list_type", "tuple_type", "set_type", "frozen_set_type"}  # pydantic's complaints of what is none of these
SHARE = 0.03  # of the gradient, at which `auto` holds a term
OF_ALL = (STAGES, CODE)  # what is no field of a plugin


class UncheckableError(PluginError):
    """Report an option of a type that pydantic does not know."""


def acts_in(name: str, given: Mapping[str, Any]) -> list[str] | None:
    """Read the option `stages` of every plugin: the stages in which it acts. None where it is not given."""
    option = Option(STAGES, list[str], None, "")
    return checked(name, option, given[STAGES]) if STAGES in given else None


def share(name: str, given: Mapping[str, Any]) -> float | None:
    """Read at which share of the gradient a plugin's terms are held, such as 0.05 for `weight=5%`.

    None where the weight is a number, or not given. Raises PluginError for a share that no term can have.
    """
    value = given.get(WEIGHT)
    value = value.lower() if isinstance(value, str) else ""
    if not (value == AUTO or value.endswith("%")):
        return None
    with suppress(ValueError):
        found = SHARE if value == AUTO else float(value.removesuffix("%")) / 100
        if 0 < found < 1:
            return found
    raise PluginError(
        f"'{name}': weight is '{value}'; a share of the gradient is between 0% and 100%, as in weight=5%."
    )


def checked(name: str, option: Option, value: Any) -> Any:
    try:
        return _converted(option.hint, value)
    except ValidationError as error:
        raise PluginError(explain(error, f"'{name}'", (), option.name)) from None
    except PydanticUserError:
        raise UncheckableError(
            f"'{name}': {option.name} is a {option.type}, which no text stands for; leave it as it is, or give the option "
            "another type."
        ) from None


def _converted(hint: Any, value: Any) -> Any:
    """Convert a value to a type. Text with commas is a list, a tuple or a set where only these will do."""
    try:
        return convert(hint, value)
    except ValidationError as error:
        if not isinstance(value, str) or SEVERAL.isdisjoint(each["type"] for each in error.errors(include_url=False)):
            raise
    return convert(hint, [part.strip() for part in value.split(",")])


def construct(name: str, kind: type[Any], options: Mapping[str, Any]) -> Any:
    try:
        return kind(**options)
    except ValueError as error:  # a check of the plugin's own, in __post_init__
        raise PluginError(f"'{name}': {in_one_line(error).rstrip('.')}.") from None
    except RegkitError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"plugin '{name}' failed when it was made: {last_line(error)}.") from error


def check_remade(name: str, plugin: Any, options: Iterable[str]) -> None:
    """Raise PluginError if one that is made of the options that this plugin holds would hold others.

    A run records what its plugin holds, and makes the plugin of it when it goes on.
    """
    held = {key: getattr(plugin, key) for key in options}
    remade = construct(name, type(plugin), held)
    for option in fields(plugin):
        was, now = (getattr(each, option.name) for each in (plugin, remade))
        if option.init and was != now and (was == was or now == now):  # NaN is not itself
            raise PluginError(
                f"plugin '{name}' changes its option {option.name} when it is made: of {short(repr(was))} it makes "
                f"{short(repr(now))}, so no run could go on with it; keep what it computes in a field with init=False."
            )


def check_code(name: str, given: Mapping[str, Any]) -> None:
    """Raise PluginError if the options note code that the user has not named, or that has changed since."""
    if CODE in given:
        check_record(name, given[CODE], uninstalled.files().get(name))


def _in_order(value: Any) -> Any:
    """Write a set, wherever it stands, as a list in one order: its own is another one in each process."""
    if isinstance(value, set | frozenset):
        return sorted(map(_in_order, value), key=repr)
    if isinstance(value, dict):
        return {key: _in_order(each) for key, each in value.items()}
    return list(map(_in_order, value)) if type(value) is list else value


def noted(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Note beside the options of a plugin in a file which code it is, unless that is noted already."""
    return ({CODE: uninstalled.files()[name].record} if name in uninstalled.files() else {}) | dict(options)


def chosen(name: str, plugin: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Read back the options that were given, as the plugin holds them.

    They are numbers, not text, and `none` for None. Of a plugin in a file, its code is noted with them.
    """
    held = {key: getattr(plugin, key) for key in given if key not in OF_ALL}
    held = {key: NONE if value is None else _in_order(value) for key, value in held.items()}
    held |= {WEIGHT: given[WEIGHT]} if share(name, given) else {}
    stages = {STAGES: acts_in(name, given)} if STAGES in given else {}
    return noted(name, held | stages)


def meant(name: str, plugin: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Read all options that a plugin acts by, those left out too.

    They are equal for what is one, however it was written. Raises PluginError for an option that JSON has no form for.
    """
    weight = {WEIGHT: ("share", found)} if (found := share(name, given)) else {}
    return held(name, plugin) | weight | {STAGES: acts_in(name, given)}


def held(name: str, plugin: Any) -> dict[str, Any]:
    """Read all options that a plugin holds, in a form that JSON has, with the code of one in a file.

    Raises PluginError for an option that JSON has no form for.
    """
    known = fields(plugin) if is_dataclass(plugin) else ()  # a plugin without options need not be one inside a test
    options = {each.name: getattr(plugin, each.name) for each in known if each.init}
    try:
        found: dict[str, Any] = to_jsonable_python(_in_order(options), inf_nan_mode="strings")
    except PydanticSerializationError as error:
        raise PluginError(f"'{name}' has an option that no checkpoint can record: {last_line(error)}.") from None
    return noted(name, found)
