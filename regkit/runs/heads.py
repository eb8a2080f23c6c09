"""Heads: take over the trained heads in the folder that the encoder is from, where they fit the run's tasks."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from regkit.base.errors import RunError
from regkit.model import MultitaskModel, load_known_heads
from regkit.runs import checkpoint


def take_over(folder: Path, model: MultitaskModel, *, fresh: bool = False) -> dict[str, str]:
    """Load heads into the model, unless they shall be `fresh`.

    Returns what the plan says of each head that is in the folder, or could be: `used`, or why it is not.
    """
    forms = checkpoint.saved_forms(folder)
    if fresh:
        return dict.fromkeys([*model.head_names, *forms], "not used, as --fresh-heads asks")
    known = load_known_heads(folder, model.heads, model.head_names)
    said = {name: "used" if name in known else "not in its checkpoint: a new one begins" for name in model.head_names}
    for name, form in forms.items():
        if name not in said:
            said[name] = _take(folder, name, form, model)
    return said


def _take(folder: Path, name: str, form: Sequence[str | None], model: MultitaskModel) -> str:
    """Load the head of one task from a run's checkpoint, if that task has the same form here."""
    if name not in model.heads:
        return "not used: this run has no such task"
    if form != model.forms[name]:
        was, now = (", ".join(filter(None, each)) for each in (form, model.forms[name]))
        return f"not used, a new one begins: it is of {was}, and the task is {now}"
    try:
        checkpoint.load_heads(folder, nn.ModuleDict({name: model.heads[name]}))
    except RunError:
        return "not used, a new one begins: it has another size"
    return "used"
