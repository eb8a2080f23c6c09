"""Trial: try an encoder of the user's own on three texts, before it trains."""

import numpy as np
import torch
from torch import Tensor, nn

from regkit.base.errors import EncoderError
from regkit.model.modes import mode
from regkit.model.own.encoder import Own
from regkit.model.own.errors import named
from regkit.tasks.batch import Batch

CLOSE = 1e-4  # how far hidden states may be from those of a text alone, in units of the largest
LONGEST = 512  # tokens of the longest text
APART = "gives other {} for a text when others stand beside it in the batch"


def try_out(own: Own, words: int) -> None:
    """Run three texts together and one at a time.

    Raises EncoderError if answers cannot be used, texts see each other, or no gradient comes back.
    """
    owner = f"the encoder of {own.factory}"
    lengths = [3, 8, min(own.longest, LONGEST)]
    ids = np.resize(np.arange(words)[::-1], sum(lengths))  # from the highest on: each word needs an embedding
    texts = np.split(ids, np.cumsum(lengths)[:-1])
    with torch.no_grad(), mode(own, training=False):
        hidden, rows = _run(own, texts)
        alone = torch.cat([_run(own, [text])[0] for text in texts])
        if not _close(hidden, alone):
            raise EncoderError(
                f"{owner} {APART.format('hidden states')}; keep texts apart by batch.starts, batch.counts or "
                "batch.sequence_of."
            )
        if not _close(rows, hidden[np.cumsum([0, *lengths[:-1]])]):
            raise EncoderError(f"{owner}: encode with rows gives other tokens than those of the rows.")
        if hasattr(own, "pool") and not _close(own.pool(rows), torch.cat([own.pool(row[None]) for row in rows])):
            raise EncoderError(f"{owner}: pool {APART.format('vectors')}; compute each row by itself.")
    with torch.enable_grad(), mode(own, training=False):
        _check_gradient(own, _pack(texts[:2]))


def _check_gradient(own: Own, batch: Batch) -> None:
    """Raise EncoderError if hidden states give the embeddings no gradient, or these their table none."""
    embeddings = own.embed(batch)
    moved = embeddings.detach().requires_grad_()
    hidden = own.encode(moved, batch)
    tables = [part.weight for part in own.module.modules() if isinstance(part, nn.Embedding)]
    sought = [moved, *(table for table in tables if table.requires_grad)]
    with named(f"the encoder of {own.factory}, whose gradient was tried,"):
        found = torch.autograd.grad(hidden.sum(), sought, allow_unused=True) if hidden.requires_grad else [None]
    lost = "encode" if found[0] is None else "embed" if None in found and not embeddings.requires_grad else ""
    if lost:
        raise EncoderError(
            f"the encoder of {own.factory}: no gradient comes back through {lost}, so nothing below it would be trained; "
            "leave out detach(), torch.no_grad() and what leaves torch, or freeze weights by requires_grad_(False)."
        )


def _close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).abs().max() <= CLOSE * wanted.abs().max())


def _run(own: Own, texts: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Compute hidden states, `[tokens, width]`, and those of the first tokens."""
    batch = _pack(texts)
    embeddings = own.embed(batch)
    return own.encode(embeddings, batch), own.encode(embeddings, batch, batch.starts)


def _pack(texts: list[np.ndarray]) -> Batch:
    return Batch.pack(texts, [np.zeros_like(text) for text in texts])
