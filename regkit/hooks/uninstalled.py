"""Uninstalled: know plugins that no package offers: classes of a notebook's cells, and files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from regkit.base.errors import PluginError
from regkit.hooks.files import PluginFile

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
