"""Padded: run an encoder on padded texts, in torch operations that a graph can record.

Packed tokens need sizes that only the data knows. A graph for other programs has the layout that they feed: one row a text.
"""

import torch
from torch import Tensor

from regkit.base.errors import EncoderError
from regkit.model.adapter import Adapter
from regkit.model.attention import SelfAttention, attend
from regkit.model.bert import Bert, Encoder, Layer
from regkit.tasks.names import Pooling


def padded_states(encoder: Encoder, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
    """Compute the last hidden states of padded texts, `[texts, longest, width]`.

    Ids, mask and segments are `[texts, longest]`. The mask is 1 for tokens and 0 for padding, which follows them. Raises
    EncoderError for an encoder of the user's own.
    """
    if isinstance(encoder, Bert):
        return _bert(encoder, ids, mask, segments)
    if not isinstance(encoder, Adapter):
        raise EncoderError("an encoder of your own reads packed texts, and no padded ones.")
    encoder.pad_inside()
    known = getattr(encoder.model.config, "type_vocab_size", 0)
    more = {"token_type_ids": segments.clamp(max=max(known - 1, 0))} if encoder.has_segments else {}
    hidden: Tensor = encoder.model(input_ids=ids, attention_mask=mask, **more).last_hidden_state
    return hidden


def runs_padded(encoder: Encoder) -> bool:
    """Whether an encoder can be run on padded texts.

    One of transformers can be, and minBERT with its own layers and attention. What these call may have been replaced.
    """
    if isinstance(encoder, Bert):
        layers: list[Layer] = list(encoder.layers)  # type: ignore[arg-type]
        return all(type(each) is Layer and type(each.attention) is SelfAttention for each in layers)
    return isinstance(encoder, Adapter)


def padded_vectors(encoder: Encoder, hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Compute a vector for each text, `[texts, width]`: what `text_vectors` does, on padded states."""
    if pooling in ("pooler", "cls"):
        first = hidden[:, 0]
        return encoder.pool(first) if pooling == "pooler" else first
    tokens = mask.bool()[:, :, None]
    if pooling == "max":
        return hidden.masked_fill(~tokens, -torch.inf).amax(1)
    return (hidden * tokens).sum(1) / tokens.sum(1)


def _bert(encoder: Bert, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
    places = torch.arange(ids.shape[1], device=ids.device) + encoder.config.first_position
    hidden = encoder.word(ids) + encoder.position(places)
    if encoder.segment is not None:
        hidden = hidden + encoder.segment(segments.clamp(max=encoder.segment.num_embeddings - 1))
    hidden = encoder.project(encoder.norm(hidden))
    for layer in encoder.layers:
        hidden = _layer(layer, hidden, mask.bool()[:, None, None])  # type: ignore[arg-type]
    found: Tensor = hidden
    return found


def _layer(layer: Layer, hidden: Tensor, mask: Tensor) -> Tensor:
    """Run one layer on padded texts, `[texts, longest, width]`; dropout is left out."""
    attention = layer.attention
    query, key, value = (
        part(hidden).unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for part in (attention.query, attention.key, attention.value)
    )
    attended = attention.out(attend(query, key, value, mask).transpose(1, 2).flatten(2))
    hidden = layer.attention_norm(attended + hidden)
    changed: Tensor = layer.norm(hidden + layer.down(layer.activation(layer.up(hidden))))
    return changed
