"""The promises of docs/design.md, over every installed plugin, alone and together."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import combinations, permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regkit import Stage, Streams
from regkit.hooks import catalog
from regkit.hooks.compose import Composition, compose
from regkit.hooks.defaults import Defaults
from regkit.hooks.spec import DECIDE
from regkit.testing import PROMISES, Factory, NotApplicableError, Tasks, tiny_kinds, tiny_tasks
from regkit.testing.contract import a_teacher_gets_no_gradient, terms_have_names_of_their_own
from regkit.testing.following import a_log_is_followed
from regkit.testing.kinds import every_kind_is_taken_or_refused
from regkit.testing.kit import factory_of
from regkit.testing.precision import bf16_is_no_trouble
from regkit.testing.promises import (
    a_skipped_step_leaves_no_trace,
    contradictions_do_not_start,
    draws_are_its_own,
    effects_are_measured,
    extra_passes_leave_no_trace,
    micro_batches_do_not_show,
    resume_is_exact,
    strength_zero_is_no_plugin,
)
from regkit.testing.saving import a_checkpoint_is_exact
from tests.helpers import slow_but
from tests.plugins.cases import table

# The promises that depend on what else is in the run: those are tried with several plugins together, too.
OF_A_STEP = (
    resume_is_exact,
    draws_are_its_own,
    micro_batches_do_not_show,
    extra_passes_leave_no_trace,
    strength_zero_is_no_plugin,
    contradictions_do_not_start,
    a_skipped_step_leaves_no_trace,
    effects_are_measured,
)


def patient(examples: int) -> settings:
    return settings(deadline=None, max_examples=examples, suppress_health_check=[HealthCheck.too_slow])


# What a plugin needs to be told on the tiny tasks of `regkit.testing`.
NEEDED = {
    "only": {"task": "binary"},
    "domain": {"corpus": "tasks", "steps": 3},
    "label_smoothing": {"tasks": ["classes", "binary", "features"]},
    "focal": {"tasks": ["classes", "binary", "features"]},
    "class_weights": {"tasks": ["classes", "binary", "features"]},
    "supcon": {"tasks": ["classes", "binary"]},
    "weighted": {"weights": {"classes": 1, "binary": 2, "score": 0, "cosine": 1, "features": 0.5}},
    "fixed_weights": {"weights": {"classes": 2, "score": 0.5}},
}
NEEDED_BY_KINDS = {
    "only": {"task": "labels"},
    "domain": {"corpus": "tasks", "steps": 3},
    "focal": {"tasks": ["labels", "grades", "ranks", "rare", "spam"]},
    "class_weights": {"tasks": ["labels", "grades"]},
    "supcon": {"tasks": ["grades", "rare", "spam"]},
    "weighted": {"weights": {"labels": 1, "grades": 2, "ranks": 1, "shares": 1, "rare": 0, "spam": 0.5}},
    "fixed_weights": {"weights": {"labels": 2, "shares": 0.5}},
}

# One of each kind, of which the quick run tries each promise.
QUICK = [
    "smart",
    "bregman",
    "neftune",
    "mixout",
    "mixup",
    "sam",
    "ema",
    "lora",
    "adaptive",
    "rrobin",
    "pcgrad",
    "uncertainty",
    "domain",
]

TRACKERS = ["tensorboard", "mlflow", "wandb", "trackio"]  # they take no part in a step

SURGERY = ["pcgrad", "gradvac", "cagrad", "torchjd", "aligned_mtl", "nash_mtl", "gradnorm", "famo"]
TOGETHER = [*SURGERY, "uncertainty", "dwa", "sam"]
IDLE = ["aligned_mtl", "nash_mtl"]  # in steps of one task they do nothing, as the others that combine gradients

# Heads without weights: a frozen encoder leaves nothing to train, and there is nothing to constrain.
NO_COSINE = {"freeze", "r4f"}

# They look at gradients of the encoder, or change its layers, and refuse a frozen one.
NO_FROZEN = {*SURGERY, "reinit_top", "layerwise_lr", "child_tuning", "lora", "supcon"}


def factory(*names: str) -> Factory:
    return lambda: {name: catalog.make(name, needed(name, names)) for name in names}


def needed(name: str, names: tuple[str, ...]) -> dict[str, object]:
    """The options of a plugin beside these others; weights only of tasks that are there."""
    there = {task.name for task in tasks_for(*names)()}
    given = dict(NEEDED.get(name, {}))
    if name == "rrobin" and set(SURGERY).intersection(names):
        given["per_step"] = 2  # in steps of one task there is nothing to combine
    if "weights" in given:
        given["weights"] = {task: weight for task, weight in given["weights"].items() if task in there}
    return given


def ours() -> list[str]:
    return [name for name, point in catalog.installed().items() if point.value.startswith("regkit_plugins.")]


def acting() -> list[str]:
    """Those of ours that take part in a step."""
    return [name for name in ours() if name not in TRACKERS]


def tasks_for(*names: str) -> Tasks:
    """All of `tiny_tasks` that the plugins can handle."""
    return lambda: [task for task in tiny_tasks() if not NO_COSINE.intersection(names) or task.name != "cosine"]


@cache
def composed(name: str) -> Composition:
    """A run's hooks with one plugin."""
    return compose(factory(name)(), Defaults([], Stage("", [])), Streams(0))


LOSSES = {"extra_losses", "task_loss", "predict"}  # whose terms or losses a kind of task may change
ASIDE = {"choose_tasks", "epoch_steps", "schedule", "evaluated"}  # shown no batch, output, weight or gradient of a step


def of_losses() -> list[str]:
    """Those whose terms or losses a kind of task may change: it has outputs and a loss of its own."""
    return [name for name in acting() if LOSSES & set(composed(name).hooks_of(name))]


@cache
def decides(name: str) -> frozenset[str]:
    """The hooks that a plugin decides."""
    return frozenset(hook for hook in DECIDE if composed(name).deciders(hook))


def apart(names: tuple[str, ...]) -> bool:
    """Whether these may be in one run: no hook is decided by two of them, and none forbids what another needs."""
    clash = any(decides(one) & decides(other) for one, other in combinations(names, 2))
    frozen = ("freeze" in names and NO_FROZEN.intersection(names)) or {"lora", "reinit_top"} <= set(names)
    return not clash and not frozen


def crowds(names: Iterable[str]) -> list[tuple[str, ...]]:
    """These in as few runs as hold them all, evenly: each run of surgery takes several tasks a step, by `rrobin`."""
    found: list[tuple[str, ...]] = [("rrobin", name) for name in names if name in SURGERY]
    for name in names:
        if not any(name in crowd for crowd in found):
            free = [crowd for crowd in found if apart((*crowd, name))]
            least = min(free, key=len, default=())
            found = [crowd for crowd in found if crowd != least] + [(*least, name)]
    return found


# What looks at the batches, outputs and gradients of a step; the second, at what a step of several tasks adds.
OF_TENSORS = (
    micro_batches_do_not_show,
    extra_passes_leave_no_trace,
    a_skipped_step_leaves_no_trace,
    effects_are_measured,
)
OF_SEVERAL = (draws_are_its_own, strength_zero_is_no_plugin, a_skipped_step_leaves_no_trace, effects_are_measured)


def promises_of(plugin: str) -> list[Callable[..., None]]:
    """The promises that this plugin alone could break by the hooks that it answers.

    Not here: going on from a checkpoint, which tests/runs/test_resume.py tries in whole runs with every plugin; and of surgery,
    what `test_with_several_tasks_a_step_every_promise_is_kept` tries.
    """
    hooks = set(composed(plugin).hooks_of(plugin))
    if plugin in TRACKERS:
        return [a_log_is_followed]
    left_out: set[Callable[..., None]] = {resume_is_exact, a_checkpoint_is_exact, a_log_is_followed}
    if plugin in SURGERY:
        left_out |= {*OF_SEVERAL, *(OF_TENSORS if not LOSSES & hooks else ())}
    if hooks <= ASIDE:
        left_out |= {*OF_TENSORS, bf16_is_no_trouble}
    if not LOSSES & hooks:
        left_out |= {terms_have_names_of_their_own}
    if not LOSSES & hooks and plugin not in NO_COSINE:
        left_out |= {every_kind_is_taken_or_refused}
    if not {"extra_losses", "prepare"} <= hooks:  # which ask a model that they keep, and are given it to copy
        left_out |= {a_teacher_gets_no_gradient}
    return [promise for promise in PROMISES if promise not in left_out]


def rows() -> list[tuple[str, Callable[..., None]]]:
    """Each plugin with its promises, and of some the one of resuming in memory, too; of one, all."""
    resuming = [(plugin, resume_is_exact) for plugin in QUICK]
    some = [(plugin, promise) for plugin in ours() for promise in promises_of(plugin)]
    return list(dict.fromkeys([*some, *resuming, *(("bregman", promise) for promise in PROMISES)]))


@pytest.mark.parametrize(
    ("plugin", "promise"),
    table(rows(), [row for row in rows() if row[0] == "bregman" or (row[0] in QUICK and row[1] in OF_A_STEP)]),
)
def test_every_plugin_keeps_every_promise(plugin: str, promise: Callable[..., None]) -> None:
    promise(factory_of(plugin) if plugin in SURGERY else factory(plugin), tasks_for(plugin))


OF_LOSSES = crowds(of_losses())


@pytest.mark.parametrize("promise", slow_but(OF_A_STEP, [micro_batches_do_not_show]))
@pytest.mark.parametrize("names", slow_but(OF_LOSSES, [crowd for crowd in OF_LOSSES if "smart" in crowd]), ids="-".join)
def test_every_plugin_keeps_every_promise_with_every_kind_of_task(
    names: tuple[str, ...], promise: Callable[..., None]
) -> None:
    promise(lambda: {name: catalog.make(name, NEEDED_BY_KINDS.get(name, {})) for name in names}, tiny_kinds)


@pytest.mark.parametrize("promise", OF_SEVERAL)
@pytest.mark.parametrize("plugin", slow_but(TOGETHER, ["pcgrad", "famo"]))
def test_with_several_tasks_a_step_every_promise_is_kept(plugin: str, promise: Callable[..., None]) -> None:
    promise(lambda: {"rrobin": catalog.make("rrobin", {"per_step": 3}), plugin: catalog.make(plugin, {})}, tiny_tasks)


def keep_all(names: tuple[str, ...], promises: Sequence[Callable[..., None]] = OF_A_STEP) -> None:
    for promise in promises:
        with suppress(NotApplicableError):
            promise(factory(*names), tasks_for(*names))


PAIRS = st.sampled_from([pair for pair in permutations(acting(), 2) if apart(pair)])


@pytest.mark.slow
@patient(4)
@given(names=PAIRS)
def test_any_two_plugins_keep_every_promise_together(names: tuple[str, str]) -> None:
    keep_all(names)


@pytest.mark.slow
def test_everything_at_once_keeps_every_promise() -> None:
    names: tuple[str, ...] = ("rrobin", "pcgrad")
    for name in acting():
        names += (name,) if name not in names and apart((*names, name)) else ()
    keep_all(names, [draws_are_its_own, extra_passes_leave_no_trace, strength_zero_is_no_plugin])
