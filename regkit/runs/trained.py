"""Trained: read a run back without its data, and ask it for labels, probabilities and vectors."""

from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import ConfigError, DataError, RunError, nearest, short
from regkit.base.files import follow, read_object
from regkit.distributed.launch import find_device
from regkit.hooks import uninstalled
from regkit.hooks.handed import take
from regkit.runs import manifest, models
from regkit.runs.described import descriptions, find_checkpoint, run_of
from regkit.runs.folders import CONFIG, other_checkpoint
from regkit.runs.settings import Settings
from regkit.tasks.names import Pooling, Precision
from regkit.tasks.objectives import Objective, Probabilistic, class_names
from regkit.tasks.task import Task
from regkit.training.fit import Fit
from regkit.training.inference import Inference
from regkit.training.precision import FP32, Choice, as_trained

Text = str | tuple[str, str]  # an example: one text, or the two of a pair
Sides = list[list[str]]  # texts by side: one list, or two of the same length
Label = str | int | float

WINDOW = 4096  # texts that are sorted by length and computed together


def load(
    run: str | Path | None = None,
    *,
    device: str = "auto",
    factory: str | None = None,
    precision: Precision = "auto",
    micro_batch_tokens: int | None = None,
    plugins: Iterable[object] = (),
) -> "Trained":
    """Load a trained model: the best of a run, or a checkpoint's folder.

    Without a name, that of the latest run.

    The data that it was trained on is not needed. `factory`, MODULE:FUNCTION, builds its encoder if that is one of your
    own. `plugins` are classes of plugins that put modules into the model and are not installed. With the precision `auto`,
    which is that of the training, answers are those that `regkit eval` scores. Raises RunError, EncoderError, PluginError or
    ConfigError.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision is {short(repr(precision))}; {' or '.join(get_args(Precision))} is needed.")
    folder = find_checkpoint(checked_path("run", run))
    if trouble := manifest.damage(folder):
        owner = run_of(folder)
        raise RunError(f"{folder} is damaged: {trouble}{other_checkpoint(owner) if owner else ''}.")
    tasks = _tasks(folder)
    where = find_device(device)
    read = models.read(folder, factory)
    with uninstalled.handing(take(plugins).plugins):
        model = models.assemble(folder, read.encoder, list(tasks.values()), where)
    settings = _settings(folder)
    choice = as_trained(precision, settings.precision if settings else None)
    inference = Inference(model, read.tokenizer, Fit.on(model, micro_batch_tokens), choice.type)
    return Trained(inference, tasks, _scores(folder), settings, folder, choice)


def checked_path(name: str, path: object) -> Path | None:
    """Return the path of a run; None for nothing. Raises ConfigError for what is no path."""
    if path is None or isinstance(path, str | Path):
        return Path(path) if path else None
    raise ConfigError(f"{name} is {short(repr(path))}; the path of a folder is needed.")


def _tasks(folder: Path) -> dict[str, Task]:
    found = {}
    for name, description in descriptions(folder).items():
        try:
            found[name] = description.task(name)
        except ValueError as error:
            said = str(error).splitlines()[0].rstrip(".")
            raise RunError(
                f"{folder / 'config.json'}: the objective of task '{name}' cannot be read: {said}."
            ) from None
    return found


def _settings(folder: Path) -> Settings | None:
    run = run_of(folder)
    return Settings.read(run / CONFIG) if run else None


def _scores(folder: Path) -> dict[str, dict[str, float]]:
    run = run_of(folder)
    if run is None or follow(run / "best").resolve() != folder.resolve():  # the scores are those of the best
        return {}
    found = read_object(run / "scores.json").get("dev")
    return found if isinstance(found, dict) else {}


@dataclass
class Trained:
    """A trained model that answers for new texts. `regkit.load` makes one.

    `texts` is a list, or anything else that yields one text after the other: strings, or tuples of two for a task that
    reads pairs. A model of one task need not be told which: `model.predict(texts)`.
    """

    inference: Inference = field(repr=False)
    tasks: Mapping[str, Task] = field(repr=False)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of the dev split, by task and metric
    settings: Settings | None = field(default=None, repr=False)  # of the run; None for a checkpoint outside its run
    folder: Path | None = None  # of the checkpoint
    precision: Choice = FP32  # in which it answers, and why

    def predict(self, task: str | Iterable[Text], texts: Iterable[Text] | None = None) -> list[Label]:
        """Predict a label for each text, as the data writes it: a class's name or number, or a score.

        Raises ConfigError for an unknown task, and DataError for a text that is empty or none.
        """
        chosen, sides = self._asked(task, texts)
        return labels(chosen.objective, self._output(chosen, sides))

    def predict_proba(self, task: str | Iterable[Text], texts: Iterable[Text] | None = None) -> np.ndarray:
        """Compute the probability of each class, `[examples, classes]`, in the order of `classes`.

        Raises ConfigError for a task without classes, such as a regression, and otherwise as `predict` does.
        """
        chosen, sides = self._asked(task, texts)
        objective = chosen.objective
        if not isinstance(objective, Probabilistic):
            kind = f"task '{chosen.name}' is of kind {objective.kind}, which has no probabilities"
            raise ConfigError(f"{kind}; predict gives its labels.")
        return np.asarray(objective.probabilities(self._output(chosen, sides)))

    def classes(self, task: str | None = None) -> tuple[str, ...]:
        """List a task's classes as its data writes them, in `predict_proba`'s order; none for a regression."""
        return tuple(class_names(self._task(task).objective))

    def embed(self, texts: Iterable[str], pooling: Pooling | None = None) -> np.ndarray:
        """Compute the vector of each text, `[texts, width]`, by the encoder's own pooling if none is named.

        Raises ConfigError for a pooling that the encoder does not have, and DataError for a text that is empty or none.
        """
        encoder = self.inference.model.encoder
        chosen = pooling or self.inference.model.pooling
        if chosen not in get_args(Pooling):
            raise ConfigError(f"there is no pooling '{chosen}'. {nearest(str(chosen), get_args(Pooling))}")
        if chosen == "pooler" and not hasattr(encoder, "pool"):
            raise ConfigError("the encoder has no 'pool'; choose the pooling mean, cls or max.")
        longest = max((task.reading.max_length or encoder.longest for task in self.tasks.values()), default=0)
        found = [
            self.inference.vectors(window, [chosen], longest or encoder.longest)[0][chosen].float().cpu()
            for window in _windows(_checked(texts, 1))
        ]
        return np.asarray(torch.cat(found)) if found else np.empty((0, encoder.width), np.float32)

    def _asked(self, task: str | Iterable[Text], texts: Iterable[Text] | None) -> tuple[Task, Sides]:
        """Find the task that is asked and the texts of each side; of one task, the name may be left out."""
        if texts is None and not isinstance(task, str):
            chosen, texts = self._task(None), task
        else:
            chosen = self._task(cast(str, task))
        if texts is None:
            raise ConfigError(f"task '{chosen.name}' is asked about no texts; give a list of them.")
        return chosen, _checked(_texts_of(chosen, texts), 1 if chosen.pair_mode is None else 2)

    def _task(self, name: str | None) -> Task:
        if not self.tasks:
            raise RunError(f"{self.folder or 'this model'} has no task: it was pretrained; fine-tune it on one first.")
        if name is None and len(self.tasks) == 1:
            return next(iter(self.tasks.values()))
        if name is None:
            raise ConfigError(f"there are several tasks; name the one to ask. {nearest('', self.tasks)}")
        if name not in self.tasks:
            raise ConfigError(f"there is no task '{short(name)}'. {nearest(name, self.tasks)}")
        return self.tasks[name]

    def _output(self, task: Task, sides: Sides) -> Tensor:
        outputs = [
            self.inference.outputs([task], dict(zip(task.reading.text, window, strict=True)))[0][task.name]
            for window in _windows(sides)
        ]
        return torch.cat(outputs) if outputs else torch.empty(0, *[task.objective.width][: task.objective.width > 1])


def labels(objective: Objective, output: Tensor) -> list[Label]:
    """Turn outputs into labels as the data writes them: classes by their names, the rest as numbers."""
    texts = [objective.text(value) for value in objective.prediction(output).tolist()]
    if getattr(objective, "names", ()):
        return list(texts)
    kind = float if objective.label_type.is_floating_point else int
    return [_number(kind, text) for text in texts]


def _number(kind: type[int] | type[float], text: str) -> Label:
    with suppress(ValueError):
        return kind(text)
    return text


def _texts_of(task: Task, texts: Any) -> Iterable[Text]:
    """Take a DataFrame's texts from the columns that the task was trained on; pass on anything else."""
    if not hasattr(texts, "columns"):
        return cast(Iterable[Text], texts)
    known = list(map(str, texts.columns))
    if absent := [name for name in task.reading.text if known.count(name) != 1]:
        which = "no column" if absent[0] not in known else "several columns"
        needed = (
            "its texts, as in table['text']" if task.pair_mode is None else "pairs, as by zip(table['a'], table['b'])"
        )
        raise DataError(f"texts is a table with {which} '{absent[0]}'; give {needed}.")
    sides = [texts[texts.columns[known.index(name)]] for name in task.reading.text]  # pandas may have numbered them
    return sides[0] if len(sides) == 1 else list(zip(*sides, strict=True))


def _checked(texts: Iterable[Text], sides: int) -> Sides:
    """Check texts and part them by side. Raises DataError, which names the first that is none."""
    if hasattr(texts, "columns"):
        raise DataError("texts is a table; give its texts, as in table['text'].")
    if isinstance(texts, str | bytes | Mapping | Set):
        raise DataError(f"texts is {short(repr(texts))}; a list of texts is needed.")
    found: Sides = [[] for _ in range(sides)]
    for number, row in enumerate(texts):
        parts = [row] if sides == 1 else row
        if not isinstance(parts, tuple | list) or len(parts) != sides or not all(isinstance(p, str) for p in parts):
            needed = "a text" if sides == 1 else "a tuple of two texts"
            raise DataError(f"texts[{number}] is {short(repr(row))}; {needed} is needed.")
        for side, part in zip(found, map(str, parts), strict=True):
            if not part.strip():
                raise DataError(f"texts[{number}] is empty.")
            if not _encodes(part):
                raise DataError(f"texts[{number}] has half of a surrogate pair, which is not text.")
            side.append(part)
    return found


def _encodes(text: str) -> bool:
    with suppress(UnicodeEncodeError):
        text.encode()
        return True
    return False


def _windows(sides: Sides) -> Iterator[Sides]:
    for begin in range(0, len(sides[0]), WINDOW):
        yield [side[begin : begin + WINDOW] for side in sides]
