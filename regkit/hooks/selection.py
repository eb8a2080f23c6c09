"""Selection: check which tasks a plugin acts on, for plugins that not every kind of task fits."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from regkit.base.errors import PluginError, nearest
from regkit.model import MultitaskModel
from regkit.tasks.scores import a_task
from regkit.tasks.task import Task


def check_tasks(
    plugin: str,
    named: Sequence[str],
    tasks: Sequence[Task],
    model: MultitaskModel,
    fits: Callable[[Task], bool],
) -> None:
    """Check the tasks on which a plugin acts.

    They are those `named` by its option `tasks`, or else all of the stage. The model has a head for each task of any stage.
    Raises PluginError for a name that is none of them, and for a task of this stage that does not fit; it lists those that
    do.
    """
    for name in named:
        if name not in model.heads:
            raise PluginError(f"'{plugin}' knows no task '{name}'. {nearest(name, model.heads)}")
    able = [task.name for task in tasks if fits(task)]
    for task in tasks:
        if (task.name in named or not named) and task.name not in able:
            remedy = f"Name those it is for: {plugin}:tasks={','.join(able)}" if able else f"Leave '{plugin}' out"
            apart = " whose pairs are read apart" if fits(replace(task, pair_mode="cross_encoder")) else ""
            raise PluginError(
                f"'{plugin}' is not for task '{task.name}', {a_task(task.objective.kind)}{apart}. {remedy}."
            )
