"""Robust: score a run on texts with typing errors, on texts in other words, and under attack."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from regkit.base.errors import ConfigError
from regkit.data.damage import CHANGES, Change, damaged
from regkit.data.encode import tokenized
from regkit.model import MultitaskModel
from regkit.model.modes import mode
from regkit.model.tokenizer import Tokenizer
from regkit.runs.finished import load_run
from regkit.tasks.names import Precision
from regkit.tasks.task import Dataset, Examples, Split, Task
from regkit.training.attack import Attack
from regkit.training.evaluation import Evaluator, Scores, score
from regkit.training.fit import Fit
from regkit.training.precision import as_trained

ATTACK = "attack"
ATTACKED = 500  # examples of a task at most: each takes as long as ten updates


@dataclass(frozen=True)
class Loss:
    """What the scores of a run are before its examples are changed, and after."""

    before: Scores
    after: Scores


@dataclass(frozen=True)
class Robust:
    """The scores of a run on a split."""

    tasks: Sequence[Task]
    losses: Mapping[str, Loss]  # by what was done to the examples; an attack is on a part of them
    notes: Sequence[str]  # what the user must know of the data


def robust_scores(
    folder: Path, split: Split, *, data: Path | None, device: str, precision: Precision, factory: str | None
) -> Robust:
    """Score a run's best checkpoint on a split as it is, and as it is changed: the examples that have a label.

    It answers in the precision of training, unless another is asked for; an attack is made in float32, as its steps are
    small. Raises RegkitError.
    """
    finished = load_run(folder, split, data=data, device=device, factory=factory, keep_texts=True)
    choice = as_trained(precision, finished.settings.precision)
    model, evaluator = finished.model, Evaluator(Fit.on(finished.model), choice.type)
    exact = Evaluator(evaluator.fit)
    tasks = [_labelled(task, split) for task in finished.tasks if task.splits[split].labels is not None]
    if not tasks:
        raise ConfigError(f"no task of {folder} has a {split} split with labels, so there is nothing to score.")
    before, found = evaluator.scores(model, tasks, split), {}
    for name, change in CHANGES.items():
        changed = [_changed(task, split, change, finished.tokenizer) for task in tasks]
        found[name] = Loss(before, evaluator.scores(model, changed, split))
    part = [replace(task, splits={split: some(task.splits[split])}) for task in tasks]
    under_attack = {task.name: attacked(model, task, split, evaluator.fit) for task in part}
    found[ATTACK] = Loss(exact.scores(model, part, split), under_attack)
    return Robust(tasks, found, finished.notes)


def some(examples: Dataset) -> Dataset:
    """Choose the examples that are attacked: all, or so many at equal distances."""
    if len(examples) <= ATTACKED or not isinstance(examples, Examples):
        return examples
    return examples.only(np.linspace(0, len(examples) - 1, ATTACKED).round().astype(int).tolist())


def attacked(model: MultitaskModel, task: Task, split: Split, fit: Fit) -> dict[str, float]:
    """Score a task at the worst points that an attack finds."""
    examples, device = task.splits[split], next(model.parameters()).device
    rows = np.argsort(examples.lengths(), kind="stable").tolist()
    found: dict[int, torch.Tensor] = {}
    with mode(model, training=False), torch.no_grad():
        for part in fit.cut(rows, examples, fit.tokens):
            batch = examples.batch(part, part).to(device)
            outputs = task.objective.evidence(Attack().outputs(model, task, batch).float(), batch).cpu()
            found |= dict(zip(part, outputs, strict=True))
    assert examples.labels is not None  # it was chosen for that
    return score(task, torch.stack([found[row] for row in range(len(examples))]), examples.labels)


def _labelled(task: Task, split: Split) -> Task:
    examples = task.splits[split]
    return replace(task, splits={split: examples.labelled()}) if isinstance(examples, Examples) else task


def _changed(task: Task, split: Split, change: Change, tokenizer: Tokenizer) -> Task:
    """Change the texts of a split, and read them as the task reads its own."""
    examples = task.splits[split]
    assert isinstance(examples, Examples)  # of a table, as a run's own tasks are
    texts = damaged(examples.texts, examples.ids, change)
    longest, apart = task.reading.max_length or sys.maxsize, task.pair_mode == "bi_encoder"
    read = tokenized(list(zip(*texts, strict=True)), tokenizer, longest, apart=apart)
    return replace(task, splits={split: replace(read, labels=examples.labels, ids=examples.ids, texts=texts)})
