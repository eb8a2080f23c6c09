"""Finished: read a run back for evaluation."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from regkit.base.errors import ConfigError, RunError, typed
from regkit.base.files import follow, read_json
from regkit.base.randomness import Streams
from regkit.data.declare import choose, find_tasks
from regkit.data.load import load_task
from regkit.distributed.launch import find_device
from regkit.model import MultitaskModel, encoders
from regkit.model.pooling import made_for
from regkit.runs import checkpoint
from regkit.runs.folders import CONFIG
from regkit.runs.settings import Settings
from regkit.tasks.task import Split, Task


def declared(tasks: Iterable[Task]) -> dict[str, list[str | None]]:
    """Describe what each head's numbers mean, by objective and pair mode: their shapes would not tell."""
    return {task.name: [repr(task.objective), task.pair_mode] for task in tasks}


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


def load_run(
    folder: Path, split: Split, *, data: Path | None = None, device: str = "auto", factory: str | None = None
) -> Finished:
    """Load the run's best model with a split of its own data, or of other data with the same tasks.

    `factory` builds its encoder if that is the user's own: the run's folder is data, and does not say what to import.
    """
    settings = Settings.read(folder / CONFIG)
    if not settings.finetune:
        raise RunError(f"{folder} was pretrained, and has no task to score; its dev scores are in scores.json.")
    found = find_tasks(data or settings.data)
    trained = settings.tasks or list(choose(found, None))
    specs = {name: found[name] for name in trained if name in found}
    if not specs:
        raise ConfigError(f"{data or settings.data} has none of the run's tasks: {', '.join(trained)}.")
    best, where = follow(folder / "best"), find_device(device)
    read = encoders.load(best, factory)
    if read.weights is None:  # or else its weights would be new ones
        raise RunError(f"{folder} has no encoder of your own; leave out {typed('--encoder-factory', factory)}.")
    tokenizer, encoder = read.tokenizer, read.encoder
    longest = min(settings.max_length or encoder.longest, encoder.longest)
    loaded = {name: load_task(name, spec, tokenizer, longest, splits=[split]) for name, spec in specs.items()}
    tasks = [task for task in loaded.values() if split in task.splits]
    if not tasks:
        raise ConfigError(f"none of the tasks {', '.join(specs)} has a {split} split; name another --split, or --data.")
    model = MultitaskModel(encoder, tasks, Streams(0), pooling=settings.pooling or made_for(best)).to(where)
    checkpoint.load_heads(best, model.heads)
    _check_declared(folder, tasks)
    columns = {name: (spec.id or "row", *spec.label_columns) for name, spec in specs.items()}
    return Finished(model, tasks, columns, settings)


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
