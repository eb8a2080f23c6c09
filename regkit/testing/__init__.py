"""Testing: check regkit's promises on a tiny model, in the tests of any plugin.

    import pytest
    from regkit.testing import PROMISES

    @pytest.mark.parametrize("promise", PROMISES)
    def test_promise(promise):
        promise(lambda: {"mine": Mine(weight=0.5)})

Each check takes a factory: a function that makes the plugins of a run, by name, afresh at every call. It raises
AssertionError with a sentence of what is wrong, or the PluginError of a run that refuses it, and what pytest counts as
skipped if it does not apply. A second argument, a function that makes tasks, is for plugins that cannot handle all of
`tiny_tasks`; `tiny_kinds` makes those of the kinds that are not among these. `Several`, beside a plugin that combines
gradients, gives it several tasks in an update. `SLOW_PROMISES` take seconds each. A `Kit` makes all checks and says what
each came to.
"""

from typing import TYPE_CHECKING

from regkit.base.lazy import lazily

if TYPE_CHECKING:
    from regkit.testing.kit import PROMISES, SLOW_PROMISES, Finding, Kit, checks, factory_of
    from regkit.testing.observers import Probe, Snapshot, exactly, gradients_of, same_weights
    from regkit.testing.promises import resume_is_exact
    from regkit.testing.tiny import (
        STEPS,
        TINY,
        Plugins,
        Several,
        measured,
        tiny_kinds,
        tiny_run,
        tiny_task,
        tiny_tasks,
        tiny_tokenizer,
        tiny_trainer,
    )
    from regkit.testing.verdicts import Factory, NotApplicableError, SkippedError, Tasks
else:  # pytest reads this package at every start, for its plugin: it shall not import torch
    __getattr__ = lazily(
        __name__,
        {
            "regkit.testing.kit": ["PROMISES", "SLOW_PROMISES", "Finding", "Kit", "checks", "factory_of"],
            "regkit.testing.observers": ["Probe", "Snapshot", "exactly", "gradients_of", "same_weights"],
            "regkit.testing.promises": ["resume_is_exact"],
            "regkit.testing.tiny": [
                "STEPS", "TINY", "Plugins", "Several", "measured", "tiny_kinds", "tiny_run", "tiny_task", "tiny_tasks",
                "tiny_tokenizer", "tiny_trainer",
            ],
            "regkit.testing.verdicts": ["Factory", "NotApplicableError", "SkippedError", "Tasks"],
        },
    )  # fmt: skip

__all__ = [
    "PROMISES",
    "SLOW_PROMISES",
    "STEPS",
    "TINY",
    "Factory",
    "Finding",
    "Kit",
    "NotApplicableError",
    "Plugins",
    "Probe",
    "Several",
    "SkippedError",
    "Snapshot",
    "Tasks",
    "checks",
    "exactly",
    "factory_of",
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
