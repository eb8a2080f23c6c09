"""The promises of docs/design.md, over every installed plugin, alone and together."""

from collections.abc import Callable
from itertools import combinations, permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regkit import catalog
from regkit.testing import PROMISES, Factory, Tasks, tiny_tasks

PATIENT_PAIRS = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])

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


def apart(names: tuple[str, str]) -> bool:
    """Whether the two may be in one run: no hook is decided by both, and neither needs what the other forbids."""
    return frozenset(names) not in {frozenset(pair) for pair in (("rrobin", "only"), ("freeze", "reinit_top"))}


@PATIENT_PAIRS
@given(names=st.sampled_from([pair for pair in permutations(ours(), 2) if apart(pair)]))
def test_any_two_plugins_keep_every_promise_together(names: tuple[str, str]) -> None:
    for promise in PROMISES:
        promise(factory(*names), tasks_for(*names))


@pytest.mark.slow
@pytest.mark.parametrize("names", [pair for pair in combinations(ours(), 2) if apart(pair)], ids="-".join)
def test_all_pairs_keep_every_promise(names: tuple[str, str]) -> None:
    for promise in PROMISES:
        promise(factory(*names), tasks_for(*names))


@pytest.mark.slow
def test_everything_at_once_keeps_every_promise() -> None:
    names = tuple(name for name in ours() if name not in ("only", "freeze"))
    for promise in PROMISES:
        promise(factory(*names), tasks_for(*names))
