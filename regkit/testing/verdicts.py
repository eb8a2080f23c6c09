"""Verdicts: what a check takes, and how it says that it has nothing to check."""

from collections.abc import Callable, Sequence
from unittest import SkipTest

from regkit.tasks.task import Task
from regkit.testing.tiny import Plugins

Factory = Callable[[], Plugins]
Tasks = Callable[[], Sequence[Task]]


class NotApplicableError(SkipTest):
    """Report that a promise says nothing of this plugin, and why. pytest counts the test as skipped."""


class SkippedError(SkipTest):
    """Report that a promise could not be checked here, and why. pytest counts the test as skipped."""
