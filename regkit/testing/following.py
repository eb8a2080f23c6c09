"""Following: the promise that a plugin which follows a run's log can be told of a run."""

from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from regkit.hooks.following import LOG
from regkit.testing.tiny import tiny_run, tiny_tasks
from regkit.testing.verdicts import Factory, NotApplicableError, Tasks

# Lines as a run's log has them: of an update, of one that was skipped, and of scores.
RECORDS: tuple[dict[str, Any], ...] = (
    {
        "time": 1.0,
        "updates": 1,
        "stage": "finetune",
        "step": 0,
        "learning_rate": 0.01,
        "gradient_norm": 1.5,
        "losses": {"classes": {"task": 1.1}},
    },
    {
        "time": 2.0,
        "updates": 2,
        "stage": "finetune",
        "step": 1,
        "skipped": [{"what": "loss", "tasks": ["classes"], "rows": [1], "term": "task", "plugins": []}],
    },
    {
        "time": 3.0,
        "updates": 2,
        "stage": "finetune",
        "step": 2,
        "scores": {"dev": {"classes": {"accuracy": 0.5}}},
    },
)


def a_log_is_followed(factory: Factory, tasks: Tasks = tiny_tasks) -> None:
    """Check that the hooks of a run's log can be called: a run begins, logs, ends, and is gone on with."""
    composition = tiny_run(factory(), tasks())[1]
    if not any(set(composition.hooks_of(name)) & set(LOG) for name in composition.plugins):
        raise NotApplicableError("it does not follow the run's log")
    with TemporaryDirectory() as place, chdir(place):  # a tracker may write where it is, as mlflow.db
        settings = {"seed": 0, "learning_rate": 0.01}
        for updates, known in ((0, RECORDS[:0]), (1, RECORDS[:1])):
            composition.hook.begin_run(folder=Path(place), settings=settings, updates=updates, records=known)
            said = composition.tell("logged", goes_on=True, records=RECORDS[updates:])
            said += composition.tell("end_run", goes_on=True, state="finished" if updates else "stopped")
            assert not said, said[0]
