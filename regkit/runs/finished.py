"""Finished: read a run back for evaluation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from regkit.base.errors import ConfigError, RegkitError, RunError
from regkit.base.files import follow, read_json
from regkit.data.declare import TaskSpec, read_again
from regkit.data.find import choose, find_tasks, is_table
from regkit.data.formats.records import has_column
from regkit.data.label_noise import Noise, noises
from regkit.data.load import load_task
from regkit.data.subsample import Draw, draws
from regkit.data.tables import find_files, open_source
from regkit.distributed.launch import find_device
from regkit.model import MultitaskModel
from regkit.model.tokenizer import Tokenizer
from regkit.runs import checkpoint, models
from regkit.runs.described import descriptions, spec_of
from regkit.runs.folders import CONFIG, best_of
from regkit.runs.resume import fingerprints
from regkit.runs.settings import Settings
from regkit.tasks.description import Description
from regkit.tasks.task import Examples, Split, Task


def declared(tasks: Iterable[Task]) -> dict[str, list[str | None]]:
    """Describe what each head's numbers mean, by objective and pair mode: their shapes would not tell."""
    return {task.name: [repr(task.objective), task.pair_mode] for task in tasks}


def digests(task: Task) -> dict[str, str]:
    """Compute a digest of each split that tables gave, so that an evaluation can say that one has changed."""
    return {split: found.digest().hex() for split, found in task.splits.items() if isinstance(found, Examples)}


def was_scored(folder: Path) -> bool:
    """Whether a run's tasks had a dev split, by its scores."""
    with suppress(OSError, ValueError, AttributeError):
        return bool(read_json(folder / "scores.json").get("dev"))
    return False


@dataclass
class Finished:
    """A run read back for evaluation: its best checkpoint, and the tasks of one split."""

    model: MultitaskModel
    tasks: list[Task]
    columns: dict[str, tuple[str, ...]]  # by task: what prediction files call the example and its label, or labels
    settings: Settings
    tokenizer: Tokenizer
    notes: Sequence[str] = ()  # what the user must know of the data


def load_run(
    folder: Path,
    split: Split,
    *,
    data: Path | None = None,
    device: str = "auto",
    factory: str | None = None,
    keep_texts: bool = False,
) -> Finished:
    """Load the run's best model with a split of its own data, or of other data with the same tasks.

    `factory` builds its encoder if that is the user's own: the run's folder is data, and does not say what to import.
    """
    settings = Settings.read(folder / CONFIG)
    if not settings.finetune:
        raise RunError(f"{folder} was pretrained, and has no task to score; its dev scores are in scores.json.")
    best, where = follow(folder / "best"), find_device(device)
    table = data if data and is_table(data) else None
    found = _of_table(best, settings, table, split) if table else _declared(settings, data)
    trained = settings.tasks or list(choose(found, None))
    own_tasks = {name: found[name] for name in trained if name in found}
    specs = read_again(own_tasks, settings.labels, settings.pair_mode)
    if not specs:
        raise ConfigError(f"{data or settings.data} has none of the run's tasks: {', '.join(trained)}.")
    read = models.read(best, factory)
    tokenizer, encoder = read.tokenizer, read.encoder
    longest = min(settings.max_length or encoder.longest, encoder.longest)
    whole = partial(load_task, tokenizer=tokenizer, longest=longest, batch_size=settings.batch_size)
    drawn, noise = draws(settings.subsample, settings.seed), noises(settings.label_noise, settings.seed)
    own = partial(_drawn, whole, drawn, noise)
    load: Callable[..., Task] = whole if data else own
    notes: list[str] = []
    if table and (moved := _moved(folder, settings, table, own)):
        specs, load = moved, own
    elif table:
        notes = [f"the rows of {table} are scored; the run may have been trained on some of them"]
    loaded = {name: load(name, spec, splits=[split], keep_texts=keep_texts) for name, spec in specs.items()}
    tasks = [task for task in loaded.values() if split in task.splits]
    if load is own and split == "train":
        noisy = [task for task in tasks if task.name in noise]
        notes += [f"task '{task.name}': {noise[task.name].note(len(task.splits['train']))}" for task in noisy]
    if not tasks:
        raise ConfigError(f"none of the tasks {', '.join(specs)} has a {split} split; name another --split, or --data.")
    model = models.assemble(best, encoder, tasks, where, settings.pooling)
    _check_declared(folder, tasks)
    if data and load is not own:
        notes += [f"task '{task.name}': {said}" for task in tasks for said in task.notes]
    notes += [] if data else _changed(folder, tasks, split)
    columns = {name: (spec.id or "row", *spec.label_columns) for name, spec in specs.items()}
    return Finished(model, tasks, columns, settings, tokenizer, notes)


def load_model(folder: Path, tasks: Sequence[Task], settings: Settings) -> MultitaskModel:
    """Load the run's best model for tasks that are at hand: those that it was trained on. Raises RunError."""
    best = best_of(folder)
    encoder = models.read(best, settings.encoder_factory).encoder
    return models.assemble(best, encoder, tasks, find_device(settings.device), settings.pooling)


def labelled(task: Task, split: Split, outputs: Tensor) -> tuple[Task, Tensor]:
    """Select the examples of a split that have a label, and their outputs: what can be scored."""
    examples = task.splits[split]
    if not isinstance(examples, Examples) or not examples.unlabelled:
        return task, outputs
    return replace(task, splits={split: examples.labelled()}), outputs[examples.labelled_rows]


def _drawn(
    load: Callable[..., Task],
    drawn: Mapping[str, Draw],
    noise: Mapping[str, Noise],
    name: str,
    spec: TaskSpec,
    **how: Any,
) -> Task:
    """Load a task with the training examples that the run drew, and their labels."""
    return load(name, spec, draw=drawn.get(name), noise=noise.get(name), **how)


def _declared(settings: Settings, data: Path | None) -> dict[str, TaskSpec]:
    """Find the tasks of the run's own data, or of other data that declares them."""
    return find_tasks(data or settings.data, None if data else settings.given)


def _of_table(best: Path, settings: Settings, table: Path, split: Split) -> dict[str, TaskSpec]:
    """Declare a table as the split of the one task of a run that has its columns.

    Raises ConfigError where that is none of several tasks, or more than one.
    """
    known = {name: each for name, each in descriptions(best).items() if name in (settings.tasks or ())}
    if len(known) > 1:
        fitting = {name: each for name, each in known.items() if _has_columns(table, each)}
        if len(fitting) != 1:
            whose = f"the tasks {' and '.join(fitting)}" if fitting else f"none of the run's tasks: {', '.join(known)}"
            raise ConfigError(f"{table} has the columns of {whose}; --data takes a tasks.toml that says which it is.")
        known = fitting
    return {name: spec_of(each, table, split) for name, each in known.items()}


def _has_columns(table: Path, description: Description) -> bool:
    """Whether a table, read as those of a task are, has the columns of its texts and its label."""
    read = description.layout
    source = open_source(find_files([table])[0], quoting=read.quoting, encoding=read.encoding, names=read.names)
    return all(has_column(source.columns, each) for each in description.needed)


def _moved(folder: Path, settings: Settings, table: Path, load: Callable[..., Task]) -> dict[str, TaskSpec]:
    """Declare a table as the run's own, if it is, by its digest; nothing if it is another.

    Then the dev split that was held out of it is that of the run.
    """
    name, *others = settings.tasks or [""]
    if others:
        return {}
    with suppress(RegkitError, OSError, LookupError, TypeError):
        declared_alone = {name: next(iter(find_tasks(table, settings.given).values()))}
        (spec,) = read_again(declared_alone, settings.labels, settings.pair_mode).values()
        digests = checkpoint.load_training(follow(folder / "last"))["run"]["data"]
        if fingerprints([load(name, spec)])[name] == digests[name]:
            return {name: spec}
    return {}


def _changed(folder: Path, tasks: Iterable[Task], split: Split) -> list[str]:
    """Say of which tasks the rows of a split are no longer those of the run's start."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        began = {name: each[2].get(split) for name, each in read_json(folder / "tasks.json").items()}
        return [
            f"task '{task.name}': the {split} rows are no longer those that the run began with"
            for task in tasks
            if began.get(task.name) not in (None, digests(task).get(split))
        ]
    return []


def _check_declared(folder: Path, tasks: Iterable[Task]) -> None:
    """Raise RunError if a task is not what the run was trained on."""
    path = folder / "tasks.json"
    try:
        found = read_json(path)
        trained = {name: (found[name][0], found[name][1]) for name in declared(tasks)}
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from None
    except (LookupError, TypeError):
        raise RunError(f"{path} is not what a run writes.") from None
    for name, found in declared(tasks).items():
        if found != list(trained[name]):
            raise RunError(f"{folder} was trained with task '{name}' as {trained[name][0]}, not {found[0]}.")
