"""The promises of docs/design.md, over every installed plugin, alone and together."""

from collections.abc import Callable

import pytest

from regkit import catalog
from regkit.testing import PROMISES, Factory, Tasks, tiny_tasks

# What a plugin needs to be told on the tiny tasks of `regkit.testing`.
NEEDED = {"only": {"task": "binary"}, "label_smoothing": {"tasks": ["classes", "binary", "features"]}}

# Heads without weights: a frozen encoder leaves nothing to train, and there is nothing to constrain.
NO_COSINE = {"freeze", "r4f"}


def factory(*names: str) -> Factory:
    return lambda: {name: catalog.make(name, NEEDED.get(name, {})) for name in names}


def ours() -> list[str]:
    return [name for name, point in catalog.installed().items() if point.value.startswith("regkit_plugins.")]


def tasks_for(*names: str) -> Tasks:
    """All of `tiny_tasks` that the plugins can handle."""
    return lambda: [task for task in tiny_tasks() if not NO_COSINE.intersection(names) or task.name != "cosine"]


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("plugin", ours())
def test_every_plugin_keeps_every_promise(plugin: str, promise: Callable[..., None]) -> None:
    promise(factory(plugin), tasks_for(plugin))


@pytest.mark.parametrize("promise", PROMISES)
def test_plugins_together_keep_every_promise(promise: Callable[..., None]) -> None:
    names = ("smart", "rrobin", "freeze")
    promise(factory(*names), tasks_for(*names))
