"""Answers: read or compute what a run predicts for the dev split of each task.

They are in its folder, or its best checkpoint gives them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from regkit.base.errors import RegkitError
from regkit.base.files import follow
from regkit.data.declare import TaskSpec, read_again
from regkit.data.find import choose, find_tasks
from regkit.data.prepare import prepare
from regkit.page.charts.figures import Point
from regkit.runs import evidence
from regkit.runs.finished import load_run
from regkit.runs.listing import Run
from regkit.tasks.objectives import Probabilistic, Regression
from regkit.tasks.task import Examples, Split, Task
from regkit.training.evaluation import Evaluator, score
from regkit.training.fit import Fit
from regkit.training.mistakes import BINS, mistakes
from regkit.training.precision import as_trained

DEV: Split = "dev"
MOST = 1500  # points of a cloud: more would hide one another


@dataclass(frozen=True)
class Answered:
    """What is shown of the predictions for a task, in plain values and in the unit of the table."""

    task: str
    kind: str
    examples: int
    scores: Mapping[str, float]
    found: Mapping[str, Any]  # what `mistakes` says: confusion, classes, errors, the worst
    calibration: Sequence[tuple[float, float, int]] = ()  # mean confidence, accuracy and examples of each bin
    pairs: Sequence[Point] = ()  # truth and prediction
    bounds: tuple[float, float] | None = None  # of a score


@dataclass(frozen=True)
class Answers:
    """The answers of a run, where they are from, and what is missing."""

    tasks: Sequence[Answered] = ()
    source: str = ""
    notes: Sequence[str] = field(default_factory=list)


def read(run: Run) -> Answers:
    """Read or compute the answers of a run. Where that cannot be done, a note says why."""
    if (run.folder / evidence.NAMES).is_file():
        with suppress(RegkitError):
            return _kept(run)
    try:
        return _computed(run)
    except (RegkitError, OSError, MemoryError) as error:
        said = f"the predictions are not shown: {str(error) or 'there is not enough memory'}"
        return Answers(notes=[said.rstrip(".") + "."])


def _kept(run: Run) -> Answers:
    """Take the answers that a run of a study has left in its folder."""
    found = evidence.load(follow(run.folder)).get(DEV, {})
    tasks, notes = [], []
    for name, each in found.items():
        texts, note = _texts(run, name, each.ids)
        notes += [note] if note else []
        task = Task(name, each.objective, {DEV: _examples(each.labels, each.ids, texts)})
        tasks.append(answered(task, each.output))
    return Answers(tasks, "the answers that the run has kept", notes)


def _examples(labels: Tensor, ids: Sequence[str], texts: Sequence[tuple[str, ...]]) -> Examples:
    """Make a split that has everything but the tokens."""
    none = np.zeros(0, np.int32)
    return Examples(none, none, np.zeros(len(labels) + 1, np.int64), labels, ids=list(ids), texts=texts)


def _texts(run: Run, name: str, ids: Sequence[str]) -> tuple[list[tuple[str, ...]], str]:
    """Find the texts of examples in the run's data; without them, say why."""
    try:
        texts = dict(_named_texts(_spec(run, name)))
        return [texts[each] for each in ids], ""
    except (RegkitError, OSError) as error:
        return [], f"{name}: the texts cannot be read: {error}"
    except KeyError as missing:
        return [], f"{name}: the data has no longer an example called {missing}, so ids stand for the texts."


def _spec(run: Run, name: str) -> TaskSpec:
    assert run.settings is not None  # or else it is no run that has answers
    specs = choose(find_tasks(run.settings.data, run.settings.given), [name])
    return read_again(specs, run.settings.labels)[name]


def _named_texts(spec: TaskSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Read the texts of the dev split by the names of their examples."""
    found = prepare(spec, [DEV])
    table = found.tables[DEV]
    for row, values in enumerate(table.rows):
        name = values.get(found.spec.id, "").strip() if found.spec.id else str(table.number(row))
        yield name, tuple(values.get(column, "") for column in found.spec.text_columns)


def _computed(run: Run) -> Answers:
    """Let the best checkpoint answer."""
    finished = load_run(follow(run.folder), DEV, keep_texts=True)
    precision, tasks = as_trained("auto", finished.settings.precision), []
    evaluator = Evaluator(Fit.on(finished.model), precision.type)
    for task in finished.tasks:
        if task.splits[DEV].labels is None:
            continue
        work = partial(evaluator.outputs, finished.model, task, DEV)
        tasks.append(answered(task, evaluator.fit.until_it_fits(work, f"on task '{task.name}'")))
    return Answers(tasks, "the best checkpoint", finished.notes)


def answered(task: Task, output: Tensor) -> Answered:
    """Sum up the outputs of a task's dev split: `[examples, ...]`. Raises RunError if one is not finite."""
    examples, objective = task.splits[DEV], task.objective
    labels = examples.labels
    assert labels is not None
    shown = Answered(task.name, objective.kind, len(labels), score(task, output, labels), mistakes(task, DEV, output))
    if labels.dim() != 1:
        return shown
    if isinstance(objective, Probabilistic):
        prediction = objective.prediction(output)
        confidence = objective.probabilities(output).gather(-1, prediction[:, None])[:, 0].double().numpy()
        return replace(shown, calibration=reliability(confidence, (prediction == labels).numpy()))
    if isinstance(objective, Regression):
        truth, guess = (
            objective.low + values.double().numpy() * objective.unit
            for values in (labels, objective.prediction(output))
        )
        chosen = np.linspace(0, len(truth) - 1, min(len(truth), MOST)).round().astype(int)
        pairs = [(float(truth[row]), float(guess[row])) for row in chosen]
        return replace(shown, pairs=pairs, bounds=(objective.low, objective.high))
    return shown


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """Compute mean confidence, accuracy and size of each bin that is not empty.

    The bins are those of Guo et al. (2017, section 2).
    """
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    bins = np.digitize(confidence, edges, right=True)  # as the expected calibration error has them
    return [
        (float(confidence[bins == each].mean()), float(right[bins == each].mean()), int((bins == each).sum()))
        for each in range(BINS)
        if (bins == each).any()
    ]
