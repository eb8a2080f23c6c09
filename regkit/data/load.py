"""Load: read a task's tables, check every label and tokenize the texts."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import DataError, short
from regkit.data.declare import SPLITS, TaskSpec
from regkit.data.tables import Table
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.objectives import Objective, differ
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
    size = spec.batch_size or batch_size
    return Task(name, spec.objective, found, pair_mode, size, notes=notes, pooling=spec.pooling)


def _examples(spec: TaskSpec, table: Table, tokenizer: Tokenizer, longest: int, split: Split) -> Examples:
    has_labels = split != "test" or spec.label in table.rows[0]  # a test split may lack them
    table.require([*spec.columns, *([spec.label] if has_labels else []), *([spec.id] if spec.id else [])])
    texts = [[_field(table, row, column) for row in range(len(table.rows))] for column in spec.columns]
    return replace(
        tokenized(texts, tokenizer, longest, apart=spec.pair_mode == "bi_encoder"),
        labels=_labels(spec.objective, spec.label, table, split) if has_labels else None,
        ids=[row.get(spec.id or "") or str(number) for number, row in enumerate(table.rows)],
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
    said = f"{100 * share:.2g} % of the tokens of the {split} texts are words that the tokenizer does not know"
    return [f"{said}; is the encoder one for this language?" if share > MANY else f"{said}."]


def _labels(objective: Objective, column: str, table: Table, split: Split) -> Tensor:
    values = []
    for number, row in enumerate(table.rows):
        text = row.get(column, "").strip()
        try:
            values.append(objective.label(text))
        except ValueError as needed:
            raise DataError(f"{table.where(number)}: {column} is '{short(text)}'; {needed} is needed.") from None
    labels = torch.tensor(values, dtype=objective.label_type)
    if split == "train" and not differ(labels):
        raise DataError(f"{table.name}: every {column} is {table.rows[0][column]}; nothing can be learned from it.")
    return labels
