"""Attention: attend within packed sequences. Padding exists only inside this module."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regkit.model.dropout import dropout
from regkit.tasks.batch import Batch


class SelfAttention(nn.Module):
    """Multi-head self-attention within each sequence of a batch (Vaswani et al., 2017, section 3.2)."""

    def __init__(self, width: int, heads: int, rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.rate = rate  # dropout on the attention weights
        # Three modules that are only ever called, so that plugins may replace them.
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Attend within each sequence, from `[tokens, width]` to `[tokens, width]`.

        With `rows`, indices of tokens, only those are returned: `[rows, width]`.
        """
        key, value = _padded(self.key(hidden), batch), _padded(self.value(hidden), batch)
        if rows is batch.starts:  # one query a sequence, that of its first token
            attended = self._attend(self.query(hidden[rows]).unsqueeze(1), key, value, batch).squeeze(1)
        else:
            attended = _packed(self._attend(_padded(self.query(hidden), batch), key, value, batch), batch)
            attended = attended if rows is None else attended[rows]
        out: Tensor = self.out(attended)
        return out

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, batch: Batch) -> Tensor:
        """Attend from queries to keys and values; return `[sequences, queries, width]`.

        The queries have that shape too, keys and values are `[sequences, longest, width]`.
        """
        query, key, value = (part.view(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in (query, key, value))
        rate = self.rate if self.training else 0.0
        if rate and query.device.type == "cpu":  # its fused kernel has no dropout, and torch's fallback draws slowly
            scores = (query @ key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
            if batch.ragged:
                scores = scores.masked_fill(~batch.visible[:, None, None], -torch.inf)
            attended = dropout(scores.softmax(-1), rate) @ value
        else:
            mask = batch.visible[:, None, None] if batch.ragged else None
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
        return attended.transpose(1, 2).flatten(2)


def _padded(packed: Tensor, batch: Batch) -> Tensor:
    """Add padding: `[tokens, width]` to `[sequences, longest, width]`."""
    count, width = len(batch.lengths), packed.shape[1]
    if batch.ragged:
        packed = packed.new_zeros(count * batch.longest, width).index_copy(0, batch.slots, packed)
    return packed.view(count, batch.longest, width)


def _packed(padded: Tensor, batch: Batch) -> Tensor:
    """Remove the padding: `[sequences, longest, width]` to `[tokens, width]`."""
    flat = padded.flatten(0, 1)
    return flat.index_select(0, batch.slots) if batch.ragged else flat
