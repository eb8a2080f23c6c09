"""Load: read a task's tables, check every label and tokenize the texts."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import DataError, short
from regkit.base.wording import percent
from regkit.data.declare import SPLITS, TaskSpec
from regkit.data.formats.records import Nested
from regkit.data.prepare import prepare
from regkit.data.remarks import describe_labels
from regkit.data.subsample import Draw
from regkit.data.tables import Table
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.objectives import Label, OfWeights, class_names, differ, weighted
from regkit.tasks.task import Examples, Reading, Split, Task

NO_LABELS = ("", "-", "?", "-1", "NA", "N/A", "nan", "null", "None")  # what often stands where a label is missing
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
) -> Task:
    """Read, check and tokenize a task's splits; `draw` chooses training examples.

    Raises DataError, which names file, line and field.
    """
    whole = read_task(name, spec, tokenizer, longest, batch_size=batch_size, splits=splits, keep_texts=keep_texts)
    return drawn(whole, draw)


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
    """Read, check and tokenize all examples of a task's splits. Raises DataError."""
    found = prepare(spec, splits)
    spec = found.spec
    pair_mode = (spec.pair_mode or "cross_encoder") if len(spec.text_columns) == 2 else None
    examples: dict[Split, Examples] = {}
    notes = list(found.notes)
    for split in list(found.tables):
        table, labelled = (
            found.tables.pop(split),
            split not in found.unlabelled,
        )  # rows are not needed once they are tokens
        examples[split] = _examples(spec, table, tokenizer, longest, split, labelled, keep_texts)
        notes += _without_label(split, examples[split])
        notes += describe_labels(spec.objective, split, examples[split].labelled().labels)
        notes += _unknown(split, examples[split], tokenizer, 1 if pair_mode != "cross_encoder" else 2)
    size = spec.batch_size or batch_size
    reading = Reading(spec.text_columns, spec.label, spec.id, longest, spec.layout)
    task = Task(name, spec.objective, examples, pair_mode, size, notes=notes, pooling=spec.pooling, reading=reading)
    return Whole(task, spec)


def drawn(whole: Whole, draw: Draw | None = None) -> Task:
    """Choose the training examples of a run, and weigh the classes by their labels. Raises ConfigError."""
    task, spec = whole.task, whole.spec
    train = task.splits.get("train")
    if draw and isinstance(train, Examples):
        rows = draw.rows(task.name, len(train))
        chosen = replace(train.only(rows), truncated=_truncated(train, rows))
        of_all = describe_labels(task.objective, "train", train.labels)
        notes = [note for note in task.notes if note not in of_all]
        notes.append(f"train: {len(rows)} of {len(train)} rows are drawn by the seed, which is {draw.seed}")
        notes += describe_labels(task.objective, "train", chosen.labels)
        task = replace(task, splits={**task.splits, "train": chosen}, notes=notes)
    if spec.class_weights is None:
        return task
    assert isinstance(task.objective, OfWeights)
    objective = weighted(task.objective, _training_labels(spec, task, draw), spec.weights or ())
    note = f"weights of its classes in the loss: {_listed(objective)}."
    return replace(task, objective=objective, notes=[*task.notes, note])


def _without_label(split: Split, examples: Examples) -> list[str]:
    count = len(examples.unlabelled)
    return [f"{split}: {count} of {len(examples)} rows have no label: they are predicted, not scored"] if count else []


def _truncated(examples: Examples, rows: Sequence[int]) -> int:
    """Count the truncated examples among these: those that are as long as any, if any was truncated."""
    lengths = np.diff(examples.offsets).reshape(-1, examples.sides).max(axis=1)
    return int((lengths[rows] == lengths.max()).sum()) if examples.truncated else 0


def _training_labels(spec: TaskSpec, task: Task, draw: Draw | None) -> Tensor:
    """Find the labels that are trained on; where the training split is not at hand, read them."""
    if "train" in task.splits:
        labels = task.splits["train"].labels
        assert labels is not None  # or else the table was refused
        return labels
    labels, _ = _labels(spec, prepare(spec, ["train"]).tables["train"], "train")
    return labels[torch.as_tensor(draw.rows(task.name, len(labels)))] if draw else labels


def _listed(objective: OfWeights) -> str:
    """List the weights by class: of a multilabel task, those of yes."""
    weights = [pair if isinstance(pair, float) else pair[1] for pair in objective.weights]
    return short(", ".join(f"{name} {each:.3g}" for name, each in zip(class_names(objective), weights, strict=True)))


def _examples(
    spec: TaskSpec, table: Table, tokenizer: Tokenizer, longest: int, split: Split, labelled: bool, keep_texts: bool
) -> Examples:
    texts = [[_field(table, row, column) for row in range(len(table.rows))] for column in spec.text_columns]
    labels, unlabelled = _labels(spec, table, split) if labelled else (None, [])
    return replace(
        tokenized(texts, tokenizer, longest, apart=spec.pair_mode == "bi_encoder"),
        labels=labels,
        unlabelled=unlabelled,
        ids=_ids(table, spec.id),
        texts=list(zip(*texts, strict=True)) if keep_texts else (),
    )


def tokenized(texts: Sequence[Sequence[str]], tokenizer: Tokenizer, longest: int, *, apart: bool = False) -> Examples:
    """Tokenize texts to examples without labels: `texts[side][row]`, with one side, or the two of a pair.

    A pair is one sequence of at most `longest` tokens, special tokens included, or two if it is read `apart`.
    """
    ids = [tokenizer.encode(side) for side in texts]
    sequences, truncated = _sequences(ids, tokenizer, longest, apart)
    return Examples(
        tokens=np.concatenate([tokens for tokens, _ in sequences]).astype(np.int32),
        segments=np.concatenate([np.arange(len(tokens)) >= second for tokens, second in sequences]).astype(np.int8),
        offsets=np.cumsum([0] + [len(tokens) for tokens, _ in sequences]),
        labels=None,
        sides=2 if apart else 1,
        truncated=truncated,
    )


def _field(table: Table, row: int, column: str) -> str:
    text = table.rows[row].get(column, "")
    if isinstance(text, Nested):
        found = json.loads(text)
        inside = next(iter(found), "") if isinstance(found, dict) else 0
        raise DataError(
            f"{table.where(row)}: {column} is {short(text)}; a text is needed, such as {short(f'{column}.{inside}')}."
        )
    if not text.strip():
        raise DataError(f"{table.where(row)}: {column} is empty; skip_empty = true leaves such rows out.")
    return text


def _ids(table: Table, column: str | None) -> list[str]:
    """Name the examples by their ids, or number them. Raises DataError for an empty id."""
    if column is None:
        return [str(table.number(row)) for row in range(len(table.rows))]
    ids = [row.get(column, "").strip() for row in table.rows]
    if "" in ids:
        raise DataError(f"{table.where(ids.index(''))}: {column} is empty; without id = '{column}', rows are numbered.")
    return ids


def _sequences(
    texts: list[list[list[int]]], tokenizer: Tokenizer, longest: int, apart: bool
) -> tuple[list[tuple[list[int], int]], int]:
    """Join the texts of each example to sequences of at most `longest` tokens, special tokens included.

    Returns each sequence with the index where its second text begins, and the number of truncated examples.
    """
    sequences: list[tuple[list[int], int]] = []
    truncated = 0
    for parts in zip(*texts, strict=True):
        groups = [[part] for part in parts] if apart else [list(parts)]
        fitted = [_fit(group, longest - tokenizer.room(len(group))) for group in groups]
        truncated += fitted != groups
        sequences += map(tokenizer.join, fitted)
    return sequences, truncated


def _fit(parts: list[list[int]], room: int) -> list[list[int]]:
    """Truncate a text, or the two of a pair, to at most `room` tokens in all.

    Tokens are cut from the end; of a pair, the longer text loses them first, and then both alike.
    """
    if len(parts) == 1:
        return [parts[0][:room]]
    first, second = parts
    keep_first = max(room - len(second), room - room // 2)
    keep_second = max(room - len(first), room // 2)
    return [first[:keep_first], second[:keep_second]]


def _unknown(split: Split, examples: Examples, tokenizer: Tokenizer, together: int) -> list[str]:
    """Say which share of a split's tokens stands for unknown words, if it is worth saying.

    together: the number of texts in a sequence.
    """
    special = tokenizer.room(together) * (len(examples.offsets) - 1)
    share = (examples.tokens == tokenizer.unk).sum() / max(1, len(examples.tokens) - special)
    if share <= SHOWN:
        return []
    said = f"{percent(share)} % of the tokens of the {split} texts are words that the tokenizer does not know"
    return [f"{said}; is the encoder one for this language?" if share > MANY else f"{said}."]


def _labels(spec: TaskSpec, table: Table, split: Split) -> tuple[Tensor, list[int]]:
    """Read the labels, and list the rows of a test split that have none.

    There, another label stands in its place.
    """
    objective, name, values = spec.objective, short(spec.label_name), list[Label]()
    texts = [spec.label_of(row) for row in table.rows]
    may_be_empty = split != "test" or spec.kind == "multilabel"
    missing = [] if may_be_empty else [number for number, text in enumerate(texts) if not text]
    stand_in = next(filter(None, texts), "")
    for number, text in enumerate(texts):
        text = text if text or may_be_empty else stand_in
        try:
            values.append(objective.label(text))
        except ValueError as needed:
            remedy = f"; {_leaving_out(text)} leaves such rows out" if text in NO_LABELS else ""
            said = f"{name} is '{short(text)}'; {needed} is needed{remedy}"
            raise DataError(f"{table.where(number)}: {said}.") from None
    labels = torch.tensor(values, dtype=objective.label_type)
    if split == "train" and not differ(labels):
        every = short(spec.label_of(table.rows[0])) or "empty"
        raise DataError(f"{table.name}: every {name} is {every}; nothing can be learned from it.")
    return labels, missing


def _leaving_out(label: str) -> str:
    """Write the option of a task by which rows with this label are left out."""
    return f"skip = ['{label}']" if label else "skip_empty = true"
