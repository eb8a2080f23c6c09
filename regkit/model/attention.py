"""Attention: attend within packed sequences. Padding exists only inside this module."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regkit.model.attention_dropout import attend_with_dropout
from regkit.model.kernels import Form
from regkit.model.padding import put_rows
from regkit.model.single_query import attend_from_one, has_shortcut
from regkit.model.varlen import attend_varlen
from regkit.model.varlen_trial import runs_varlen
from regkit.tasks.batch import Batch


def usual_heads(width: int) -> int:
    """Compute the attention heads of a BERT of this width, which have 64 numbers each."""
    return max(width // 64, 1)


class SelfAttention(nn.Module):
    """Multi-head self-attention within each sequence of a batch (Vaswani et al., 2017, section 3.2)."""

    def __init__(self, width: int, heads: int, rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.rate = rate  # dropout on the attention weights
        # Plugins may replace these: what is no plain linear layer is only ever called.
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Attend within each sequence, from `[tokens, width]` to `[tokens, width]`.

        With `rows`, indices of tokens, only those are returned: `[rows, width]`.
        """
        first = rows is batch.starts  # one query a sequence, that of its first token
        if first and hidden.is_cpu and has_shortcut(self.key, self.value):
            return self._attend_from_starts(hidden, batch)
        given = (self.query(hidden[rows] if first else hidden), self.key(hidden), self.value(hidden))
        query, key, value = (part.unflatten(1, (self.heads, -1)) for part in given)
        attended = attend_within(query, key, value, batch, Form(self.rate if self.training else 0.0)).flatten(1)
        out: Tensor = self.out(attended if rows is None or first else attended[rows])
        return out

    def _attend_from_starts(self, hidden: Tensor, batch: Batch) -> Tensor:
        padded, query = add_padding(hidden, batch), self.query(hidden[batch.starts])
        rate = self.rate if self.training else 0.0
        attended = attend_from_one(query, padded, batch.visible, self.key, self.value, self.heads, rate)
        out: Tensor = self.out(attended)
        return out


def attend_within(query: Tensor, key: Tensor, value: Tensor, batch: Batch, form: Form) -> Tensor:
    """Attend within each sequence of a batch, to `[queries, heads, width of a head]`.

    Keys and values are `[tokens, heads, width of a head]`. Queries are those of all tokens, or one a sequence, that of its
    first token.
    """
    if runs_varlen(query, key, value, form):
        return attend_varlen(query, key, value, batch, form)
    single = len(query) != len(batch.tokens)
    query = query[:, None] if single else add_padding(query, batch)
    query, key, value = (part.transpose(1, 2) for part in (query, add_padding(key, batch), add_padding(value, batch)))
    attended = attend(query, key, value, visible(batch, form.window), form.rate, form.scale).transpose(1, 2)
    return attended.squeeze(1) if single else remove_padding(attended, batch)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attend from queries to keys and values, all `[sequences, heads, tokens, width of a head]`.

    The mask is true where a query sees a key, and `rate` is that of dropout on the attention weights. Without `scale`, scores
    are divided by the root of a head's width.
    """
    if rate and query.device.type == "cpu":  # its fused kernel has no dropout, and torch's fallback draws slowly
        return attend_with_dropout(query, key, value, mask, rate, scale)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate, scale=scale)


def visible(batch: Batch, window: int | None = None) -> Tensor | None:
    """Make a mask of the keys that each query sees: tokens, and with `window` only those nearer than it.

    It broadcasts to `[sequences, heads, queries, keys]`; None lets every query see every key.
    """
    tokens = batch.visible[:, None, None] if batch.ragged else None
    if window is None or batch.longest <= window:
        return tokens
    places = torch.arange(batch.longest, device=batch.counts.device)
    near = (places[:, None] - places).abs() < window
    # Padding sees every token: a row of the softmax without a key would have gradients that are not finite.
    return near if tokens is None else tokens & (near | ~batch.visible[:, None, :, None])


def add_padding(packed: Tensor, batch: Batch) -> Tensor:
    """Add padding, zeros: `[tokens, ...]` to `[sequences, longest, ...]`."""
    count, shape = len(batch.lengths), packed.shape[1:]
    if batch.ragged:
        packed = put_rows(packed, batch.slots, count * batch.longest)
    return packed.view(count, batch.longest, *shape)


def remove_padding(padded: Tensor, batch: Batch) -> Tensor:
    """Remove the padding: `[sequences, longest, ...]` to `[tokens, ...]`."""
    flat = padded.flatten(0, 1)
    return flat.index_select(0, batch.slots) if batch.ragged else flat
