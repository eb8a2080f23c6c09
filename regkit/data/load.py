"""Load: read a task's tables, check every label and tokenize the texts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import short
from regkit.base.wording import percent
from regkit.data.declare import SPLITS, TaskSpec
from regkit.data.examples import Files, Part, Way, write_examples, write_labels
from regkit.data.kept import find_kept
from regkit.data.label_noise import Noise
from regkit.data.prepare import needed, prepare
from regkit.data.remarks import describe_labels
from regkit.data.saved import Found
from regkit.data.subsample import Draw
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.objectives import OfWeights, class_names, weighted
from regkit.tasks.task import Examples, Reading, Split, Task

SHOWN, MANY = 0.01, 0.1  # shares of unknown words that the plan mentions, and warns of


@dataclass(frozen=True)
class Whole:
    """A task with all of its examples, before the run's seed has any say."""

    task: Task
    spec: TaskSpec  # with nothing left open


def load_task(
    name: str,
    spec: TaskSpec,
    tokenizer: Tokenizer,
    longest: int,
    *,
    batch_size: int = 32,
    splits: Iterable[Split] = SPLITS,
    keep_texts: bool = False,
    draw: Draw | None = None,
    noise: Noise | None = None,
) -> Task:
    """Read, check and tokenize a task's splits.

    `draw` chooses training examples, `noise` replaces labels of theirs. Raises DataError, which names file, line and field.
    """
    whole = read_task(name, spec, tokenizer, longest, batch_size=batch_size, splits=splits, keep_texts=keep_texts)
    return drawn(whole, draw, noise)


def read_task(
    name: str,
    spec: TaskSpec,
    tokenizer: Tokenizer,
    longest: int,
    *,
    batch_size: int = 32,
    splits: Iterable[Split] = SPLITS,
    keep_texts: bool = False,
) -> Whole:
    """Read, check and tokenize the examples of a task's splits, or find them kept. Raises DataError."""
    wanted, way = list(splits), Way(tokenizer, longest, keep_texts)
    found = find_kept(spec, needed(spec, wanted), wanted, way, partial(_read, spec, wanted, way))
    spec = found.spec
    pair_mode = (spec.pair_mode or "cross_encoder") if len(spec.text_columns) == 2 else None
    size = spec.batch_size or batch_size
    reading = Reading(spec.text_columns, spec.label, spec.id, longest, spec.layout)
    task = Task(
        name, spec.objective, found.splits, pair_mode, size, notes=found.notes, pooling=spec.pooling, reading=reading
    )
    return Whole(task, spec)


def _read(spec: TaskSpec, wanted: Sequence[Split], way: Way, folder: Path | None) -> Found:
    """Read the splits of a task, and write their examples into a folder, or into memory for None."""
    prepared = prepare(spec, wanted)
    spec = prepared.spec
    together = len(spec.text_columns) if spec.pair_mode != "bi_encoder" else 1
    found, objective = Found(spec, list(prepared.notes)), spec.objective
    for split in list(prepared.tables):
        table = prepared.tables.pop(split)  # rows are not needed once they are tokens
        part = write_examples(spec, table, way, Files(folder, split), labelled=split not in prepared.unlabelled)
        found.splits[split] = examples = part.examples
        found.notes += _without_label(split, examples)
        found.notes += describe_labels(objective, split, examples.labelled().labels)
        found.notes += _unknown(split, part, way.tokenizer, together)
    return found


def drawn(whole: Whole, draw: Draw | None = None, noise: Noise | None = None) -> Task:
    """Choose a run's training examples and their labels, and weigh the classes by these.

    Raises ConfigError.
    """
    task, spec = whole.task, whole.spec
    if draw and isinstance(train := task.splits.get("train"), Examples):
        rows = draw.rows(task.name, len(train))
        chosen = replace(train.only(rows), truncated=_truncated(train, rows))
        said = f"train: {len(rows)} of {len(train)} rows are drawn by the seed, which is {draw.seed}"
        task = _trained_on(task, chosen, said)
    if noise and isinstance(train := task.splits.get("train"), Examples):
        task = _trained_on(task, _noisy(task, train, noise), noise.note(len(train)))
    if spec.class_weights is None:
        return task
    assert isinstance(task.objective, OfWeights)
    objective = weighted(task.objective, _training_labels(spec, task, draw, noise), spec.weights or ())
    note = f"weights of its classes in the loss: {_listed(objective)}."
    return replace(task, objective=objective, notes=[*task.notes, note])


def _trained_on(task: Task, examples: Examples, said: str) -> Task:
    """Give a task other training examples, and say what they are, and describe their labels."""
    of_all = describe_labels(task.objective, "train", task.splits["train"].labels)
    notes = [note for note in task.notes if note not in of_all]
    notes += [said, *describe_labels(task.objective, "train", examples.labels)]
    return replace(task, splits={**task.splits, "train": examples}, notes=notes)


def _noisy(task: Task, train: Examples, noise: Noise) -> Examples:
    assert train.labels is not None  # or else the table was refused
    return replace(train, labels=noise.replaced(task.name, task.objective, train.labels))


def _without_label(split: Split, examples: Examples) -> list[str]:
    count = len(examples.unlabelled)
    return [f"{split}: {count} of {len(examples)} rows have no label: they are predicted, not scored"] if count else []


def _truncated(examples: Examples, rows: Sequence[int]) -> int:
    """Count the truncated examples among these: those that are as long as any, if any was truncated."""
    lengths = np.diff(examples.offsets).reshape(-1, examples.sides).max(axis=1)
    return int((lengths[rows] == lengths.max()).sum()) if examples.truncated else 0


def _training_labels(spec: TaskSpec, task: Task, draw: Draw | None, noise: Noise | None) -> Tensor:
    """Find the labels that are trained on; where the training split is not at hand, read them."""
    if "train" in task.splits:
        labels = task.splits["train"].labels
        assert labels is not None  # or else the table was refused
        return labels
    labels, _ = write_labels(spec, prepare(spec, ["train"]).tables["train"], Files(None, "train"))
    labels = labels[torch.as_tensor(draw.rows(task.name, len(labels)))] if draw else labels
    return noise.replaced(task.name, task.objective, labels) if noise else labels


def _listed(objective: OfWeights) -> str:
    """List the weights by class: of a multilabel task, those of yes."""
    weights = [pair if isinstance(pair, float) else pair[1] for pair in objective.weights]
    return short(", ".join(f"{name} {each:.3g}" for name, each in zip(class_names(objective), weights, strict=True)))


def _unknown(split: Split, part: Part, tokenizer: Tokenizer, together: int) -> list[str]:
    """Say which share of a split's tokens stands for unknown words, if it is worth saying.

    together: the number of texts in a sequence.
    """
    tokens, sequences = len(part.examples.tokens), len(part.examples.offsets) - 1
    share = part.unknown / max(1, tokens - tokenizer.room(together) * sequences)
    if share <= SHOWN:
        return []
    said = f"{percent(share)} % of the tokens of the {split} texts are words that the tokenizer does not know"
    return [f"{said}; is the encoder one for this language?" if share > MANY else f"{said}."]
