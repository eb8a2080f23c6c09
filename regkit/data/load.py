"""Load: read a task's tables, check every label and tokenize the texts."""

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import DataError, short
from regkit.base.wording import percent
from regkit.data.declare import SPLITS, TaskSpec
from regkit.data.tables import Table
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.objectives import Objective, OfWeights, class_names, differ, weighted
from regkit.tasks.task import Examples, Split, Task

SHOWN, MANY = 0.01, 0.1  # shares of unknown words that the plan mentions, and warns of


def load_task(
    name: str,
    spec: TaskSpec,
    tokenizer: Tokenizer,
    longest: int,
    *,
    batch_size: int = 32,
    splits: Iterable[Split] = SPLITS,
) -> Task:
    """Read, check and tokenize a task's splits. Raises DataError, which names file, line and field."""
    pair_mode = (spec.pair_mode or "cross_encoder") if len(spec.columns) == 2 else None
    found: dict[Split, Examples] = {}
    notes: list[str] = []
    for split in splits:
        table = spec.table(split)
        if table is not None:
            found[split] = _examples(spec, table, tokenizer, longest, split)
            notes += _unknown(split, found[split], tokenizer, 1 if pair_mode != "cross_encoder" else 2)
    size, objective = spec.batch_size or batch_size, spec.objective
    if spec.class_weights is not None:
        objective = _weighted(spec, found["train"].labels if "train" in found else None)
        notes.append(f"weights of its classes in the loss: {_listed(objective)}.")
    return Task(name, objective, found, pair_mode, size, notes=notes, pooling=spec.pooling)


def _weighted(spec: TaskSpec, labels: Tensor | None) -> OfWeights:
    """Give the objective the declared weights; without the training labels at hand, read them."""
    objective = spec.objective
    assert isinstance(objective, OfWeights)
    if labels is None and (table := spec.table("train")) is not None:
        table.require(spec.label_columns)
        labels = _labels(objective, spec.label_columns, table, "train")
    assert labels is not None  # a task has a training split
    return weighted(objective, labels, spec.weights or ())


def _listed(objective: OfWeights) -> str:
    """List the weights by class: of a multilabel task, those of yes."""
    weights = [pair if isinstance(pair, float) else pair[1] for pair in objective.weights]
    return short(", ".join(f"{name} {each:.3g}" for name, each in zip(class_names(objective), weights, strict=True)))


def _examples(spec: TaskSpec, table: Table, tokenizer: Tokenizer, longest: int, split: Split) -> Examples:
    columns = spec.label_columns
    has_labels = split != "test" or not table.rows[0].keys().isdisjoint(columns)  # a test split may lack them
    table.require([*spec.columns, *(columns if has_labels else []), *([spec.id] if spec.id else [])])
    texts = [
        tokenizer.encode([_field(table, row, column) for row in range(len(table.rows))]) for column in spec.columns
    ]
    apart = spec.pair_mode == "bi_encoder"
    sequences, truncated = _sequences(texts, tokenizer, longest, apart)
    return Examples(
        tokens=np.concatenate([tokens for tokens, _ in sequences]).astype(np.int32),
        segments=np.concatenate([np.arange(len(tokens)) >= second for tokens, second in sequences]).astype(np.int8),
        offsets=np.cumsum([0] + [len(tokens) for tokens, _ in sequences]),
        labels=_labels(spec.objective, columns, table, split) if has_labels else None,
        sides=2 if apart else 1,
        ids=[row.get(spec.id or "") or str(number) for number, row in enumerate(table.rows)],
        truncated=truncated,
    )


def _field(table: Table, row: int, column: str) -> str:
    text = table.rows[row].get(column, "")
    if not text.strip():
        raise DataError(f"{table.where(row)}: {column} is empty.")
    return text


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


def _labels(objective: Objective, columns: Sequence[str], table: Table, split: Split) -> Tensor:
    values, name = [], short(", ".join(columns))
    for number, row in enumerate(table.rows):
        text = _cells(row, columns)
        try:
            values.append(objective.label(text))
        except ValueError as needed:
            raise DataError(f"{table.where(number)}: {name} is '{short(text)}'; {needed} is needed.") from None
    labels = torch.tensor(values, dtype=objective.label_type)
    if split == "train" and not differ(labels):
        every = short(_cells(table.rows[0], columns)) or "empty"
        raise DataError(f"{table.name}: every {name} is {every}; nothing can be learned from it.")
    return labels


def _cells(row: Mapping[str, str], columns: Sequence[str]) -> str:
    """Read the label of a row, of several columns as a JSON list."""
    cells = [row.get(column, "").strip() for column in columns]
    return cells[0] if len(cells) == 1 else json.dumps(cells, ensure_ascii=False)
