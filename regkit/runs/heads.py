"""Heads: take over the trained heads in the encoder's folder, where they fit the run's tasks."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from regkit.base.errors import EncoderError, RunError
from regkit.model import MultitaskModel, load_known_heads
from regkit.model.classifiers import other_heads, read_classifier
from regkit.model.heads import Linear
from regkit.runs import checkpoint
from regkit.tasks.task import Task


def take_over(folder: Path, model: MultitaskModel, tasks: Sequence[Task], *, fresh: bool = False) -> dict[str, str]:
    """Load the heads in a folder into the model where they fit, unless they shall be `fresh`.

    Returns what the plan says of each head that is in the folder, or could be: `used`, or why it is not.
    """
    forms, others = checkpoint.saved_forms(folder), other_heads(folder)
    if fresh:
        return dict.fromkeys([*model.head_names, *forms, *others], "not used, as --fresh-heads asks")
    known = load_known_heads(folder, model.heads, model.head_names)
    said = {
        name: "used" if name in known else "not in its checkpoint in this form: a new one begins"
        for name in model.head_names
    }
    for name, form in forms.items():
        if name not in said:
            said[name] = _take(folder, name, form, model)
    return said | {name: _take_other(folder, name, model, tasks) for name in others}


def _take(folder: Path, name: str, form: Sequence[str | None], model: MultitaskModel) -> str:
    """Load the head of one task from a run's checkpoint, if that task has the same form here."""
    if name not in model.heads:
        return "not used: this run has no such task"
    if form != model.forms[name]:
        was, now = (", ".join(filter(None, each)) for each in (form, model.forms[name]))
        return f"not used, a new one begins: it is of {was}, and the task is {now}"
    try:
        checkpoint.load_heads(folder, nn.ModuleDict({name: model.heads[name]}))
    except RunError as error:
        return f"not used, a new one begins: {_plain(error)}"
    return "used"


def _take_other(folder: Path, name: str, model: MultitaskModel, tasks: Sequence[Task]) -> str:
    """Load a head that another program trained into that of the one task that it fits."""
    if not name.endswith("ForSequenceClassification"):
        return "not used: regkit has no head of this kind"
    try:
        classifier = read_classifier(folder, model.encoder.width)
    except EncoderError as error:
        return f"not used: {_plain(error)}"
    fits = [(task, found) for task in tasks if _on_pooler(model, task) and (found := classifier.fit(task.objective))]
    if not fits:
        return f"not used: it tells {classifier}, and no task here has the same on the pooler's output"
    if len(fits) > 1:
        names = [task.name for task, _ in fits]
        return f"not used: it fits {' and '.join(names)}; --tasks {names[0]} would train that alone, and on it"
    ((task, weights),) = fits
    model.heads[task.name].load_state_dict(weights)
    return f"used for {task.name}{classifier.meaning(task.objective)}"


def _on_pooler(model: MultitaskModel, task: Task) -> bool:
    """Whether a task's head is one linear layer on the pooler's output."""
    return type(model.heads[task.name]) is Linear and (task.pooling or model.pooling) == "pooler"


def _plain(error: Exception) -> str:
    """Write an error as the end of a sentence of the plan."""
    return str(error).rstrip(".")
