"""Implementations: find the methods of a plugin that answer hooks, and check that they fit."""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any

from regkit.base.errors import MisuseError, nearest
from regkit.hooks.spec import DECIDE, Hooks

HOOKS = tuple(name for name in vars(Hooks) if not name.startswith("_"))
Method = Callable[..., Any]
NO_METHODS = (staticmethod, classmethod, property, cached_property)


def implementations(plugin: object) -> dict[str, Method]:
    """Find the methods of a plugin that are hook implementations, by the name of the hook."""
    found: dict[str, Method] = {}
    for name, member in inspect.getmembers_static(plugin, _is_marked):  # properties are not asked
        if not isinstance(member, NO_METHODS):
            method = getattr(plugin, name)
            found[method.regkit_impl["specname"] or name] = method
    return found


def _is_marked(member: Any) -> bool:
    return isinstance(getattr(member, "regkit_impl", None), dict)


def is_wrapper(method: Any) -> bool:
    """Whether a hook implementation wraps the others' answers."""
    return bool(method.regkit_impl["wrapper"])


def check_hooks(name: str, plugin: object) -> dict[str, Method]:
    """Find a plugin's implementations by the name of the hook, and check that they fit the contract.

    Raises MisuseError for one that fits no hook, for a hook's method without its mark, and for half a state.
    """
    found = implementations(plugin)
    for member, kind in inspect.getmembers_static(type(plugin), lambda each: isinstance(each, NO_METHODS)):
        if _is_marked(kind) or _is_marked(getattr(kind, "__func__", None)):
            raise MisuseError(
                f"plugin '{name}': {member} is a {type(kind).__name__}; a hook is an ordinary method: @hookimpl and "
                f"`def {member}(self, ...)`."
            )
    if unmarked := [hook for hook in HOOKS if hook not in found and inspect.isroutine(getattr(plugin, hook, None))]:
        raise MisuseError(
            f"plugin '{name}' has a method {unmarked[0]} without @hookimpl, so it would never be called as a "
            "hook; mark it, or give it another name."
        )
    if not found:
        raise MisuseError(f"plugin '{name}' attaches to no hook; mark its methods with @hookimpl.")
    have = [each for each in ("state_dict", "load_state_dict") if hasattr(plugin, each)]
    if len(have) == 1:
        raise MisuseError(
            f"plugin '{name}' has {have[0]} alone; a run that is resumed needs both state_dict and load_state_dict."
        )
    for hook, method in found.items():
        _check_signature(name, hook, method)
    return found


def arguments_of(hook: str) -> list[str]:
    """List the names of all arguments of a hook."""
    return list(inspect.signature(getattr(Hooks, hook)).parameters)[1:]


def _check_signature(name: str, hook: str, method: Any) -> None:
    if hook not in HOOKS:
        raise MisuseError(f"plugin '{name}' implements '{hook}', which is no hook. {nearest(hook, HOOKS)}")
    if hook in DECIDE and method.regkit_impl["trylast"] and not is_wrapper(method):
        raise MisuseError(f"plugin '{name}': {hook} is marked trylast, so the default would answer before it.")
    if method.regkit_impl["hookwrapper"]:
        raise MisuseError(f"plugin '{name}': {hook} is a wrapper of an old kind; mark it by @hookimpl(wrapper=True).")
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise MisuseError(f"plugin '{name}': {hook} is `async def`, and a hook is called, not awaited; write `def`.")
    if is_wrapper(method) and not inspect.isgeneratorfunction(method):
        raise MisuseError(f"plugin '{name}': the wrapper {hook} has no yield.")
    if not is_wrapper(method) and inspect.isgeneratorfunction(method):
        raise MisuseError(
            f"plugin '{name}': {hook} would never run; a hook with a yield is marked @hookimpl(wrapper=True)."
        )
    known = arguments_of(hook)
    if inspect.ismethod(method):
        named = list(inspect.signature(method.__func__).parameters)
        if not named or named[0] in known:
            whole = ", ".join(["self", *named])
            raise MisuseError(f"plugin '{name}': {hook} lacks self, as a method has; write `def {hook}({whole})`.")
    for argument in inspect.signature(method).parameters.values():
        if argument.name not in known:
            choices = nearest(argument.name, known)
            raise MisuseError(f"plugin '{name}': {hook} has no argument '{argument.name}'. {choices}")
        if argument.kind is argument.KEYWORD_ONLY or argument.default is not argument.empty:
            raise MisuseError(f"plugin '{name}': {hook}: '{argument.name}' must be plain, without * or a default.")
