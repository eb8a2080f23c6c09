"""Pooling: make one vector of a text from its hidden states, as the encoder was trained."""

from collections.abc import Collection
from pathlib import Path
from typing import cast, get_args

import torch
from torch import Tensor

from regkit.base.errors import EncoderError
from regkit.base.files import read_object
from regkit.model.bert import Encoder
from regkit.tasks.batch import Batch
from regkit.tasks.names import ENTRY, Pooling

# In the file of sentence-transformers, whose module comes after the encoder.
THEIRS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}


def text_vectors(encoder: Encoder, embeddings: Tensor, batch: Batch, pooling: Pooling) -> Tensor:
    """Compute a vector for each sequence from word embeddings, `[tokens, width]` to `[sequences, width]`."""
    return vectors_by_pooling(encoder, embeddings, batch, [pooling])[pooling]


def vectors_by_pooling(
    encoder: Encoder, embeddings: Tensor, batch: Batch, poolings: Collection[Pooling]
) -> dict[Pooling, Tensor]:
    """Compute the vectors of each pooling, `[sequences, width]`, from one pass of the encoder."""
    if {"mean", "max"}.isdisjoint(poolings):  # only the first tokens are computed in the last layer
        hidden = first = encoder.encode(embeddings, batch, batch.starts)
    else:
        hidden = encoder.encode(embeddings, batch)
        first = hidden[batch.starts]
    return {pooling: _pooled(encoder, hidden, first, batch, pooling) for pooling in poolings}


def _pooled(encoder: Encoder, hidden: Tensor, first: Tensor, batch: Batch, pooling: Pooling) -> Tensor:
    if pooling in ("pooler", "cls"):
        return _wide(encoder.pool(first) if pooling == "pooler" else first)
    return batch.per_sequence(_wide(hidden), "mean" if pooling == "mean" else "amax")


def _wide(hidden: Tensor) -> Tensor:
    """Go on in float32, or wider, from where the encoder's precision ends."""
    return hidden.to(torch.promote_types(hidden.dtype, torch.float32))


def usual(encoder: Encoder) -> Pooling:
    """Choose the pooling of a new encoder: the pooler's output if it has a pooler, else the mean."""
    return "pooler" if hasattr(encoder, "pool") else "mean"


def made_for(folder: Path) -> Pooling:
    """Find the pooling that the encoder in a folder was trained with; `pooler` if the folder does not say.

    Raises EncoderError for one that regkit does not have.
    """
    entry = read_object(folder / "config.json").get(ENTRY)
    ours = entry.get("pooling") if isinstance(entry, dict) else None
    if ours in get_args(Pooling):
        return cast(Pooling, ours)
    path = folder / "1_Pooling" / "config.json"
    theirs = read_object(path)
    if isinstance(mode := theirs.get("pooling_mode"), str):  # as newer versions write it
        modes = [mode]
    else:
        modes = [
            THEIRS.get(name, name) for name, on in theirs.items() if name.startswith("pooling_mode_") and on is True
        ]
    if not modes:
        return "pooler"
    if len(modes) > 1 or modes[0] not in THEIRS.values():
        known = ", ".join(get_args(Pooling))
        raise EncoderError(f"{path} asks for {' and '.join(modes)}; choose another pooling by --pooling: {known}.")
    return cast(Pooling, modes[0])
