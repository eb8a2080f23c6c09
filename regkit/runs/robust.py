"""Robust: score a run on texts with typing errors, on texts in other words, and under attack."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import ConfigError
from regkit.data.damage import CHANGES, Change, damaged
from regkit.data.encode import tokenized
from regkit.model import MultitaskModel
from regkit.model.modes import mode
from regkit.model.tokenizer import Tokenizer
from regkit.runs.evidence import Evidence
from regkit.runs.finished import Finished, load_run
from regkit.runs.radii import attack_within
from regkit.tasks.names import Precision
from regkit.tasks.task import Dataset, Examples, Split, Task
from regkit.training.attack import Attack
from regkit.training.evaluation import Evaluator, Scores, score
from regkit.training.fit import Fit
from regkit.training.precision import as_trained

ATTACKED = 500  # examples of a task at most: each takes as long as ten updates

Found = dict[str, Evidence]  # by task


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


@dataclass(frozen=True)
class Probe:
    """Asks a run's best checkpoint about the labelled examples of a split.

    It asks about them as they are, changed, and under attack. It answers in the precision of training, unless another is
    asked for; an attack is made in float32, as its steps are small. Where memory runs out, passes are halved. The changes
    are the same for every run.
    """

    finished: Finished
    split: Split
    radii: Sequence[float]  # of the attacks
    precision: Precision = "auto"

    @cached_property
    def tasks(self) -> list[Task]:
        """The tasks that the split has labels of, each with the examples that have one."""
        found = [task for task in self.finished.tasks if task.splits[self.split].labels is not None]
        return [_labelled(task, self.split) for task in found]

    @cached_property
    def part(self) -> list[Task]:
        """The tasks with the examples that are attacked."""
        return [replace(task, splits={self.split: some(task.splits[self.split])}) for task in self.tasks]

    @cached_property
    def evaluator(self) -> Evaluator:
        choice = as_trained(self.precision, self.finished.settings.precision)
        return Evaluator(Fit.on(self.finished.model), choice.type)

    def plain(self) -> Found:
        """Ask about the examples as they are."""
        return self._answers(self.tasks, self._outputs(self.evaluator))

    def under(self, change: Change) -> Found:
        """Ask about the examples with their texts changed."""
        tasks = [_changed(task, self.split, change, self.finished.tokenizer) for task in self.tasks]
        return self._answers(tasks, self._outputs(self.evaluator))

    def before_attack(self) -> Found:
        """Ask about the examples that are attacked as they are, in float32."""
        return self._answers(self.part, self._outputs(Evaluator(self.evaluator.fit)))

    def under_attack(self, radius: float) -> Found:
        """Ask about the examples at the worst points that an attack finds."""
        model, fit, attack = self.finished.model, self.evaluator.fit, Attack(radius)
        return self._answers(self.part, lambda task: attacked(model, task, self.split, fit, attack))

    def under_all(self) -> dict[str, Found]:
        """Ask about the examples changed in each way, and under each attack: by what was done to them."""
        changed = {name: self.under(change) for name, change in CHANGES.items()}
        return changed | {attack_within(radius): self.under_attack(radius) for radius in self.radii}

    def scores(self, found: Found) -> Scores:
        """Score answers. Raises RunError if an output is not finite."""
        return {task.name: score(task, found[task.name].output, found[task.name].labels) for task in self.tasks}

    def _outputs(self, evaluator: Evaluator) -> Callable[[Task], Tensor]:
        return lambda task: evaluator.outputs(self.finished.model, task, self.split)

    def _answers(self, tasks: Sequence[Task], outputs: Callable[[Task], Tensor]) -> Found:
        found = {}
        for task in tasks:
            output = self.evaluator.fit.until_it_fits(partial(outputs, task), f"on task '{task.name}'")
            examples = task.splits[self.split]
            assert examples.labels is not None  # it was chosen for that
            found[task.name] = Evidence(task.objective, output, examples.labels, list(examples.ids))
        return found


def robust_scores(
    folder: Path,
    split: Split,
    *,
    radii: Sequence[float],
    data: Path | None,
    device: str,
    precision: Precision,
    factory: str | None,
) -> Robust:
    """Score a run's best checkpoint on a split as it is, and as it is changed.

    Examples without a label are left out. Raises RegkitError.
    """
    finished = load_run(folder, split, data=data, device=device, factory=factory, keep_texts=True)
    probe = Probe(finished, split, radii, precision)
    if not probe.tasks:
        raise ConfigError(f"no task of {folder} has a {split} split with labels, so there is nothing to score.")
    plain, part = probe.scores(probe.plain()), probe.scores(probe.before_attack())
    losses = {
        name: Loss(plain if name in CHANGES else part, probe.scores(found)) for name, found in probe.under_all().items()
    }
    return Robust(probe.tasks, losses, finished.notes)


def some(examples: Dataset) -> Dataset:
    """Choose the examples that are attacked: all, or so many at equal distances."""
    if len(examples) <= ATTACKED or not isinstance(examples, Examples):
        return examples
    return examples.only(np.linspace(0, len(examples) - 1, ATTACKED).round().astype(int).tolist())


def attacked(model: MultitaskModel, task: Task, split: Split, fit: Fit, attack: Attack) -> Tensor:
    """Compute what the objective keeps of the output at the worst points found, in order, on the CPU."""
    examples, device = task.splits[split], model.device
    rows = np.argsort(examples.lengths(), kind="stable").tolist()
    found: dict[int, Tensor] = {}
    with mode(model, training=False), torch.no_grad():
        for part in fit.cut(rows, examples, fit.tokens):
            batch = examples.batch(part, part).to(device)
            outputs = task.objective.evidence(attack.outputs(model, task, batch).float(), batch).cpu()
            found |= dict(zip(part, outputs, strict=True))
    return torch.stack([found[row] for row in range(len(examples))])


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
