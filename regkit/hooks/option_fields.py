"""Option fields: read the options that a plugin's class declares, and check them."""

import inspect
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from itertools import starmap
from typing import Any, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from regkit.base.bounds import leaves
from regkit.base.described import Option, meanings
from regkit.base.errors import PluginError, complaint, nearest, short
from regkit.base.failures import last_line
from regkit.hooks import option_values, traits
from regkit.hooks.option_values import OF_ALL

LARGE = 1e6  # a weight that an option with an upper bound refuses


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


def check_names(name: str, known: Mapping[str, Option], given: Mapping[str, Any]) -> None:
    """Raise PluginError for an option that is given and not known, or needed and not given."""
    for option in given:
        if option not in known and option not in OF_ALL:
            raise PluginError(f"'{name}' has no option '{option}'. {nearest(option, [*known, option_values.STAGES])}")
    for needed in known.values():
        if needed.default is MISSING and needed.name not in given:
            raise PluginError(f"'{name}' needs {needed.name}: --plugin {name}:{needed.name}={needed.type.upper()}.")


def check_defaults(name: str, known: Mapping[str, Option], given: Mapping[str, Any]) -> None:
    """Raise PluginError for a default that its own type does not allow.

    None stands for one that is worked out later. Numbers and truth values must be of the very type: 1 is no bool. Others
    may be what pydantic makes one of: a path's text.
    """
    for option in known.values():
        if option.name in given or option.default is MISSING or option.default is None:
            continue
        wrong = f"plugin '{name}': its option {option.name} is {short(repr(option.default))} by default"
        with suppress(PydanticUserError):  # a type that only the plugin can check
            try:
                found = TypeAdapter(option.hint).validate_python(option.default)
            except ValidationError as error:
                raise PluginError(f"{wrong}; {complaint(error)}; give it another default, or another type.") from None
            if not all(starmap(_as_strict, leaves(option.default, found))):
                raise PluginError(f"{wrong}, which is no {option.type}; give it another default, or another type.")


def _as_strict(value: Any, found: Any) -> bool:
    """Tell whether pydantic made a number or a truth value of nothing else."""
    if not isinstance(found, int | float):
        return True
    value = value.item() if hasattr(value, "item") else value  # numpy's
    if isinstance(value, bool) != isinstance(found, bool):
        return False
    return isinstance(value, int | float if isinstance(found, float) else int)


def check_weight(name: str, plugin: type, hooks: Container[str], given: str) -> None:
    """Raise PluginError if a plugin has no weight without an upper bound that scales its terms."""
    if option_values.WEIGHT not in traits.strengths(plugin) or "extra_losses" not in hooks:
        raise PluginError(f"'{name}' has no weight that scales a term of the loss, so weight={given} is not for it.")
    try:
        option_values.checked(name, options(plugin)[option_values.WEIGHT], LARGE)
    except PluginError:
        raise PluginError(
            f"'{name}' has a weight within bounds, so weight={given} is not for it; give a number."
        ) from None


def check_options(name: str, plugin: Any) -> None:
    """Check the options of a plugin that was made in Python, as `make` checks what the command line gives."""
    for option in options(type(plugin)).values():
        with suppress(option_values.UncheckableError):  # only the plugin can check it
            option_values.checked(name, option, getattr(plugin, option.name))
