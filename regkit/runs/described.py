"""Described: find a checkpoint, and read what it says about its tasks. None of it needs torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from regkit.base.errors import RegkitError, RunError, explain
from regkit.base.files import follow, read_object
from regkit.data.declare import TaskSpec, read_again
from regkit.data.find import choose, find_tasks
from regkit.runs.folders import CONFIG, best_of, find_folder, is_run
from regkit.runs.settings import Settings
from regkit.tasks.description import Description
from regkit.tasks.names import ENTRY, Split

Descriptions = dict[str, Description]  # by task


def find_checkpoint(run: Path | None) -> Path:
    """Find the best checkpoint of a run, the latest for None, or take the folder of a checkpoint as it is.

    Raises RunError if there is none.
    """
    if run is not None and "heads" in entry(follow(run)) and not is_run(follow(run)):
        return follow(run)
    return best_of(find_folder(run))


def run_of(checkpoint: Path) -> Path | None:
    """Find the folder of the run that a checkpoint lies in; None if it was copied elsewhere."""
    above = (checkpoint.parent, checkpoint.resolve().parent.parent)
    return next((folder for folder in above if is_run(folder)), None)


def entry(checkpoint: Path) -> dict[str, Any]:
    """Read what regkit wrote into a checkpoint's config.json for itself; nothing if it is not regkit's."""
    found = read_object(checkpoint / "config.json").get(ENTRY)
    return found if isinstance(found, dict) else {}


def descriptions(checkpoint: Path) -> Descriptions:
    """Read the tasks of a checkpoint; those of an older run, which does not hold them, from its data.

    Raises RunError if the checkpoint is damaged, or the data of an older run is gone or has changed.
    """
    found = entry(checkpoint)
    if "tasks" not in found:
        return _from_data(checkpoint, found.get("heads"))
    try:
        return TypeAdapter(Descriptions).validate_python(found["tasks"])
    except ValidationError as error:
        raise RunError(explain(error, f"{checkpoint / 'config.json'}, the tasks of regkit", ())) from None


def spec_of(description: Description, data: Path, split: Split) -> TaskSpec:
    """Declare a table, whose every row is one of a split, as the tables that the task was trained on."""
    objective, layout = description.objective, description.layout
    columns = description.columns
    values = {
        "kind": objective["kind"],
        "text": columns[0] if len(columns) == 1 else columns,
        "label": description.label,
        "id": description.id,
        "pair_mode": description.pair_mode,
        "pooling": description.pooling,
        "classes": objective.get("names") or objective.get("classes"),
        "range": (objective["low"], objective["high"]) if "low" in objective else None,
        "quoting": layout.quoting,
        "encoding": layout.encoding,
        "columns": layout.names,
        "skip_empty": True,
        split: data,
    }
    return TaskSpec.model_validate(values)


def _from_data(checkpoint: Path, forms: object) -> Descriptions:
    owner = f"{checkpoint} was written by an older regkit and does not describe its tasks"
    run = run_of(checkpoint)
    if run is None or not isinstance(forms, dict):
        raise RunError(f"{owner}; give the folder of its run.")
    settings = Settings.read(run / CONFIG)
    if not settings.finetune:
        return {}
    try:
        tasks = choose(find_tasks(settings.data, settings.given), settings.tasks)
        specs = read_again(tasks, settings.labels, settings.pair_mode)
    except RegkitError as error:
        raise RunError(f"{owner}, and its data cannot be read: {str(error).rstrip('.')}.") from None
    return {name: _described(run, name, spec, settings, forms) for name, spec in specs.items()}


def _described(run: Path, name: str, spec: TaskSpec, settings: Settings, forms: Mapping[str, Any]) -> Description:
    """Describe a task as the data declares it now, if that is what the run was trained on."""
    from regkit.tasks.objectives import described  # which imports torch

    pair_mode = (spec.pair_mode or "cross_encoder") if len(spec.text_columns) == 2 else None
    form = forms.get(name)
    if not isinstance(form, list) or form[:2] != [repr(spec.objective), pair_mode]:
        raise RunError(f"{run} was trained with task '{name}' as {form}, not {spec.objective!r}.")
    return Description(
        objective=described(spec.objective),
        pair_mode=pair_mode,
        pooling=form[-1],
        text=spec.text_columns,
        label=spec.label,
        id=spec.id,
        max_length=settings.max_length,
        layout=spec.layout,
    )
