"""Numbers: what losses and divergences share - precision, shapes and the divergence of distributions."""

import torch
from torch import Tensor


def wide(values: Tensor) -> Tensor:
    """Convert to float32, or keep a wider type: bf16 has too few digits for small differences."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def same_shape(output: Tensor, other: Tensor) -> None:
    if output.shape != other.shape:
        raise ValueError(f"outputs of shapes {list(output.shape)} and {list(other.shape)} cannot be compared")


def kl_both_ways(output: Tensor, other: Tensor) -> Tensor:
    """Compute the terms of KL(p, q) + KL(q, p) from logits: (p - q)(log p - log q) of each class.

    Both logits and terms are `[rows, classes]`; their sum over classes is the divergence of a row.
    """
    same_shape(output, other)
    log_p, log_q = wide(output).log_softmax(-1), wide(other).log_softmax(-1)
    return (log_p.exp() - log_q.exp()) * (log_p - log_q)
