"""Verdicts: what a check takes, and how it says that it has nothing to check."""

from collections.abc import Callable, Sequence
from unittest import SkipTest

from regkit.hooks.implementations import implementations
from regkit.tasks.task import Task
from regkit.testing.tiny import Plugins, unscored

Factory = Callable[[], Plugins]
Tasks = Callable[[], Sequence[Task]]


class NotApplicableError(SkipTest):
    """Report that a promise says nothing of this plugin, and why. pytest counts the test as skipped."""


class SkippedError(SkipTest):
    """Report that a promise could not be checked here, and why. pytest counts the test as skipped."""


def lean(factory: Factory, tasks: Tasks) -> Sequence[Task]:
    """Make the tasks without dev splits, whose scoring takes longest, unless a plugin is told of scores."""
    told = any("evaluated" in implementations(plugin) for plugin in factory().values())
    return tasks() if told else unscored(tasks())
