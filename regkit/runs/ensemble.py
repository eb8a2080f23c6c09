"""Ensemble: what runs answer for the examples of a split, and the mean of several runs' answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import RunError
from regkit.distributed.processes import ALONE, Processes
from regkit.runs import evidence
from regkit.runs.finished import labelled, load_run
from regkit.runs.folders import best_of, find_folder, find_run, unfinished
from regkit.tasks.names import UNDER, Precision
from regkit.tasks.objectives import Mixable
from regkit.tasks.task import Examples, Split, Task
from regkit.training.evaluation import Evaluator, Scores, score
from regkit.training.fit import Fit
from regkit.training.precision import as_trained


@dataclass(frozen=True)
class Answered:
    """What a run, or an ensemble of several, answers for the examples of a split."""

    name: str
    tasks: Sequence[Task]  # with this split alone
    outputs: Mapping[str, Tensor]  # by task: what the objective keeps of the output for each example
    columns: Mapping[str, Sequence[str]]  # by task: what prediction files call the example and its label, or labels
    notes: Sequence[str] = ()  # what the user must know of the data
    whole: bool = True  # whether examples without a label are among them

    def labelled(self, split: Split) -> "Answered":
        """Select the examples that have a label: what can be scored. A task without any label stays as it is."""
        found = {task.name: labelled(task, split, self.outputs[task.name]) for task in self.tasks}
        tasks, outputs = [task for task, _ in found.values()], {name: output for name, (_, output) in found.items()}
        return replace(self, tasks=tasks, outputs=outputs, whole=False)

    def scores(self, split: Split) -> Scores:
        """Score the tasks whose split has labels: `scores[task][metric]`."""
        found = self.labelled(split)
        pairs = [(task, task.splits[split].labels) for task in found.tasks]
        return {
            task.name: score(task, found.outputs[task.name], labels) for task, labels in pairs if labels is not None
        }


def answer(
    run: Path | None,
    split: Split,
    *,
    data: Path | None = None,
    device: str = "auto",
    factory: str | None = None,
    precision: Precision = "auto",
    keep_texts: bool = False,
    processes: Processes = ALONE,
) -> Answered:
    """Ask the best checkpoint of a run about a split, the latest run for None.

    They are computed in the precision of training, unless another is asked for. A run of a study that has kept its answers
    and not its weights gives those. Raises RegkitError as `load_run` does.
    """
    folder = find_folder(run)
    if data is None and (folder / evidence.NAMES).is_file() and not _has_weights(folder):
        if precision != "auto":
            raise RunError(f"{folder} has no weights to answer in {precision}; leave out --precision for what it kept.")
        return _remembered(folder, split)
    folder = find_run(run)
    finished = load_run(folder, split, data=data, device=device, factory=factory, keep_texts=keep_texts)
    choice, outputs = as_trained(precision, finished.settings.precision), {}
    evaluator = Evaluator(Fit.on(finished.model), choice.type, processes)
    for task in finished.tasks:
        work = partial(evaluator.outputs, finished.model, task, split)
        outputs[task.name] = evaluator.fit.until_it_fits(work, f"on task '{task.name}'")
    notes = [*unfinished(folder), *([f"scored in {choice}"] if choice.why else []), *finished.notes]
    return Answered(str(folder), finished.tasks, outputs, finished.columns, notes)


def _has_weights(folder: Path) -> bool:
    try:
        return best_of(folder).is_dir()
    except RunError:
        return False


def _remembered(folder: Path, split: Split) -> Answered:
    """Read the answers that a run without weights has kept of a split."""
    answers = evidence.load(folder)
    if split not in answers:
        kept = " and ".join(each for each in answers if UNDER not in each) or "no split"
        raise RunError(f"{folder} has no weights, and has kept its answers on {kept} alone; name another --split.")
    found = answers[split]
    tasks = [Task(name, each.objective, {split: _without_texts(each)}) for name, each in found.items()]
    notes = [f"{folder} has no weights: these are the answers that it has kept, on examples with a label"]
    outputs = {name: each.output for name, each in found.items()}
    return Answered(str(folder), tasks, outputs, dict.fromkeys(found, ("id", "label")), notes, whole=False)


def _without_texts(kept: evidence.Evidence) -> Examples:
    nothing = np.empty(0, np.int32)
    return Examples(nothing, nothing, np.zeros(len(kept.ids) + 1, np.int64), kept.labels, ids=kept.ids)


def ensemble(members: Sequence[Answered], split: Split) -> Answered:
    """Compute the mean of several runs' answers: of probabilities for classes, of scores for a regression.

    Raises RunError where they were trained on other tasks or classes, or asked about other examples.
    """
    if not all(member.whole for member in members):
        members = [member.labelled(split) for member in members]
    first = members[0]
    for member in members[1:]:
        check_alike(first, member, split)
    outputs = {}
    for task in first.tasks:
        if not isinstance(task.objective, Mixable):
            raise RunError(f"task '{task.name}' is of kind {task.objective.kind}, whose answers have no mean.")
        outputs[task.name] = task.objective.mixture(torch.stack([member.outputs[task.name] for member in members]))
    notes = list(dict.fromkeys(note for member in members for note in member.notes))
    return replace(first, name=f"ensemble of {len(members)} runs", outputs=outputs, notes=notes)


def check_alike(one: Answered, other: Answered, split: Split) -> None:
    """Raise RunError if two runs answer for other tasks, classes or examples, which have no mean."""
    names, others = ({task.name: task for task in each.tasks} for each in (one, other))
    if names.keys() != others.keys():
        said = [f"{', '.join(sorted(tasks))} in {each.name}" for tasks, each in ((names, one), (others, other))]
        raise RunError(f"the tasks are {said[0]}, and {said[1]}; an ensemble needs runs of the same tasks.")
    for name, task in names.items():
        kinds = [repr(each.objective) for each in (task, others[name])]
        if kinds[0] != kinds[1]:
            said = [f"{kind} in {each.name}" for kind, each in zip(kinds, (one, other), strict=True)]
            raise RunError(f"task '{name}' is {said[0]}, and {said[1]}; an ensemble needs the same.")
        rows, others_rows = (len(each.splits[split]) for each in (task, others[name]))
        if rows != others_rows:
            raise RunError(
                f"task '{name}' has {rows} {split} examples in {one.name}, and {others_rows} in {other.name}; name by --data"
                " a table that neither was trained on."
            )
        if one.outputs[name].shape != other.outputs[name].shape:
            raise RunError(f"task '{name}' has answers of another form in {other.name} than in {one.name}.")
        if not _same(task, others[name], split):
            raise RunError(
                f"task '{name}' has other {split} examples in {other.name} than in {one.name}; name by --data"
                " a table that neither was trained on."
            )


def _same(task: Task, other: Task, split: Split) -> bool:
    """Whether two splits have the same examples, by name, label and, where both were kept, text."""
    one, two = task.splits[split], other.splits[split]
    if list(one.ids) != list(two.ids) or (one.labels is None) != (two.labels is None):
        return False
    if isinstance(one, Examples) and isinstance(two, Examples):
        if one.texts and two.texts and list(one.texts) != list(two.texts):
            return False
        one, two = one.labelled(), two.labelled()
    return one.labels is None or two.labels is None or bool(torch.equal(one.labels, two.labels))


def mean_of(scores: Sequence[Scores]) -> Scores:
    """Compute the mean of several runs' scores, of those that all of them have."""
    first = scores[0]
    return {
        task: {name: float(np.mean([each[task][name] for each in scores])) for name in values}
        for task, values in first.items()
    }
