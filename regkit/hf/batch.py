"""Batch: the inputs of a Trainer, which have padding, as a packed batch, and back."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from regkit.base.errors import EncoderError
from regkit.tasks.batch import Batch


@dataclass(frozen=True)
class PaddedBatch(Batch):
    """A packed batch that knows the padded inputs from which it was made, labels included."""

    inputs: Mapping[str, Any] = field(kw_only=True)
    places: Tensor = field(kw_only=True)  # [tokens] index of each token in `input_ids`, flattened

    def packed(self, padded: Tensor) -> Tensor:
        """Leave the padding out: `[examples, longest, ...]` to `[tokens, ...]`."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def put_into(self, padded: Tensor, packed: Tensor) -> Tensor:
        """Replace what `[examples, longest, width]` has for tokens by `[tokens, width]`; padding stays."""
        if padded.shape[:2] != self.inputs["input_ids"].shape:
            raise EncoderError("it looks up word embeddings for other tokens than those of input_ids.")
        return padded.flatten(0, 1).index_copy(0, self.places, packed.to(padded.dtype)).view_as(padded)


def pack(inputs: Mapping[str, Any], keys: Sequence[int]) -> PaddedBatch:
    """Pack the inputs of a model: `input_ids`, `attention_mask`, `[examples, longest]`, and others.

    The padding may stand on any side. Without an attention mask, every place holds a token, as it does for the model.
    Raises EncoderError for inputs of another form; note: this waits for the GPU.
    """
    ids = inputs["input_ids"]
    mask = inputs.get("attention_mask")
    if ids.dim() != 2 or (mask is not None and mask.shape != ids.shape):
        raise EncoderError("input_ids and attention_mask need the shape [examples, tokens].")
    present = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    segments = inputs.get("token_type_ids")
    counts = present.sum(1)
    lengths = tuple(counts.tolist())
    if 0 in lengths:
        raise EncoderError("an example has no token: its attention_mask is 0 everywhere.")
    labels = inputs.get("labels")
    return PaddedBatch(
        tokens=ids[present],
        segments=torch.zeros_like(ids)[present] if segments is None else segments[present],
        positions=(present.cumsum(1) - 1)[present],
        starts=counts.cumsum(0) - counts,
        counts=counts,
        sequence_of=torch.arange(len(ids), device=ids.device).repeat_interleave(counts),
        labels=labels.flatten() if labels is not None and labels.numel() == len(ids) else labels,
        lengths=lengths,
        sides=1,
        rows=(),
        keys=tuple(keys),
        inputs=inputs,
        places=present.flatten().nonzero().squeeze(1),
    )


@contextmanager
def word_embeddings(model: Any, batch: PaddedBatch, embeddings: Tensor) -> Iterator[None]:
    """Give the model these word embeddings, `[tokens, width]`, wherever it looks up those of the batch.

    It still gets `input_ids`, so what it derives from them, such as RoBERTa's positions, stays as it is.
    """

    def put(module: nn.Module, given: Any, found: Tensor) -> Tensor:
        return batch.put_into(found, embeddings)

    hook = model.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()
