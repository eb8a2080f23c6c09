"""Testing: check regkit's promises on a tiny model, in the tests of any plugin.

    import pytest
    from regkit.testing import PROMISES

    @pytest.mark.parametrize("promise", PROMISES)
    def test_promise(promise):
        promise(lambda: {"mine": Mine(weight=0.5)})

Each check takes a factory: a function that makes the plugins of a run, by name, afresh at every call. It raises
AssertionError with what differed. A second argument, a function that makes tasks, is for plugins that cannot handle all of
`tiny_tasks`; `tiny_kinds` makes those of the kinds that are not among these.
"""

from regkit.testing.observers import Probe, Snapshot, exactly, gradients_of, same_weights
from regkit.testing.promises import PROMISES, Factory, Tasks, resume_is_exact
from regkit.testing.tiny import (
    STEPS,
    TINY,
    Plugins,
    measured,
    tiny_kinds,
    tiny_run,
    tiny_task,
    tiny_tasks,
    tiny_tokenizer,
    tiny_trainer,
)

__all__ = [
    "PROMISES",
    "STEPS",
    "TINY",
    "Factory",
    "Plugins",
    "Probe",
    "Snapshot",
    "Tasks",
    "exactly",
    "gradients_of",
    "measured",
    "resume_is_exact",
    "same_weights",
    "tiny_kinds",
    "tiny_run",
    "tiny_task",
    "tiny_tasks",
    "tiny_tokenizer",
    "tiny_trainer",
]
