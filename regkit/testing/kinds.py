"""Kinds: the promise that a plugin takes every kind of task, or refuses it by name.

It refuses before the first step.
"""

from collections.abc import Sequence
from contextlib import suppress

from regkit.base.errors import MisuseError, RegkitError
from regkit.tasks.task import Task
from regkit.testing.observers import prepared
from regkit.testing.tiny import tiny_kinds, tiny_tasks, tiny_trainer
from regkit.testing.verdicts import Factory, NotApplicableError, Tasks, lean
from regkit.training.stages import measure_length


def every_kind_is_taken_or_refused(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that a task of each objective and pair mode trains, or is refused by name.

    It is refused before the first step.
    """
    every = lean(factory, lambda: [*tiny_tasks(), *tiny_kinds()])
    refused = {task.name: refusal(factory, [task]) for task in every}
    for task in every:
        said = refused[task.name]
        assert not said or task.name in said, f"{described(task)} is refused without its name; name it: {said}"
    failed = {task.name: _failure(factory, task) for task in every if not refused[task.name]}
    if not failed:
        raise NotApplicableError(f"it refuses each kind of task alone: {refused[every[0].name]}")
    for task in every:
        if failure := failed.get(task.name):
            assert not all(failed.values()), failure
            raise AssertionError(
                f"{described(task)} cannot be trained: {failure} Compute it for this kind too, or refuse the task in "
                "`prepare` by a PluginError that names it"
            )


def _failure(factory: Factory, task: Task) -> str:
    """Train two steps on one task. Returns what went wrong; nothing if nothing did."""
    try:
        tiny_trainer(factory(), tasks=[task], steps=2).train()
    except RegkitError as error:
        return str(error)
    return ""


def refusal(factory: Factory, tasks: Sequence[Task]) -> str:
    """Return the sentence that refuses a run on these tasks before it begins; nothing if none does.

    Raises AssertionError if a hook fails in place of refusing, or the plugin breaks the contract.
    """
    try:
        trainer = tiny_trainer(factory(), tasks=tasks)
        stage, there = prepared(trainer)
        measure_length(trainer.hook, trainer.streams, stage, there)  # a scheduler may know only then
    except MisuseError as error:
        raise AssertionError(str(error)) from error
    except RegkitError as error:
        if error.__cause__:
            raise AssertionError(f"{error} Refuse by a PluginError what the plugin cannot handle") from error
        return str(error)
    return ""


def _refuses(factory: Factory, task: Task) -> bool:
    with suppress(AssertionError):  # that it fails is found by the check
        return bool(refusal(factory, [task]))
    return False


def taken(factory: Factory) -> Tasks:
    """Choose those of the tiny tasks that the plugin takes; all, if it takes them together."""
    with suppress(AssertionError):
        if not refusal(factory, tiny_tasks()):
            return tiny_tasks
    names = {task.name for task in tiny_tasks() if not _refuses(factory, task)}
    return lambda: [task for task in tiny_tasks() if task.name in names]


def described(task: Task) -> str:
    """Describe a task by its objective and the way in which it reads a pair."""
    pairs = f", {task.pair_mode}" if task.pair_mode else ""
    return f"the task '{task.name}' ({type(task.objective).__name__}{pairs})"
