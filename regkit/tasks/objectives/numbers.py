"""Numbers: what losses and divergences share."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def wide(values: Tensor) -> Tensor:
    """Convert to float32, or keep a wider type: bf16 has too few digits for small differences."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def constant(values: Sequence[Any], like: Tensor) -> Tensor:
    """Make a tensor of numbers, or of rows of numbers, once for each device.

    A copy to a GPU would make the CPU wait for it each time.
    """
    rows = tuple(tuple(each) if isinstance(each, Sequence) else each for each in values)
    return _constant(rows, like.dtype, like.device)


@lru_cache
def _constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # what is first asked for while predicting serves in training, too
        return torch.tensor(values, dtype=dtype, device=device)


def same_shape(output: Tensor, other: Tensor) -> None:
    """Check that no argument would be broadcast. Raises ValueError."""
    if output.shape != other.shape:
        raise ValueError(f"outputs of shapes {list(output.shape)} and {list(other.shape)} cannot be compared")


def kl_both_ways(output: Tensor, other: Tensor) -> Tensor:
    """Compute the terms of KL(p, q) + KL(q, p) from logits: (p - q)(log p - log q) of each class.

    Both logits and terms are `[rows, classes]`; their sum over classes is the divergence of a row.
    """
    same_shape(output, other)
    log_p, log_q = wide(output).log_softmax(-1), wide(other).log_softmax(-1)
    return (log_p.exp() - log_q.exp()) * (log_p - log_q)


def yes_kl_both_ways(output: Tensor, other: Tensor) -> Tensor:
    """Compute KL(p, q) + KL(q, p) of Bernoulli distributions from logits of yes.

    It is (p - q)(logit p - logit q).
    """
    same_shape(output, other)
    output, other = wide(output), wide(other)
    return (output.sigmoid() - other.sigmoid()) * (output - other)


def cross_entropy(output: Tensor, labels: Tensor, weights: Sequence[float] = ()) -> Tensor:
    """Compute the cross-entropy of logits, `[examples, classes]`: a scalar, the mean over examples.

    Labels are classes, `[examples]`, or distributions, `[examples, classes]`. With a weight for each class the mean is
    still over examples, and not over their weights as torch's own: a rare class in one micro-batch would change what the
    examples beside it count.
    """
    output = wide(output)
    if labels.is_floating_point():
        same_shape(output, labels)
        labels = labels.to(output.dtype)
    return F.cross_entropy(output, labels, constant(weights, output) if weights else None, reduction="none").mean()


def yes_cross_entropy(output: Tensor, labels: Tensor, weights: Sequence[object] = ()) -> Tensor:
    """Compute the cross-entropy of logits of yes: a scalar, the mean over all of them.

    Labels are 0 and 1, or chances of yes, in the shape of the output. The weights are `[2]`, of no and yes, or
    `[labels, 2]`.
    """
    same_shape(output, labels)
    output, labels = wide(output), labels.to(wide(output).dtype)
    if not weights:
        return F.binary_cross_entropy_with_logits(output, labels)
    no, yes = constant(weights, output).unbind(-1)
    return -(yes * labels * F.logsigmoid(output) + no * (1 - labels) * F.logsigmoid(-output)).mean()


def mixed(outputs: Tensor) -> Tensor:
    """Compute logits of the mean of several distributions, from their logits: `[models, ..., classes]`."""
    return outputs.double().log_softmax(-1).logsumexp(0).float()


def mixed_yes(outputs: Tensor) -> Tensor:
    """Compute the logit of the mean of several chances of yes, from their logits, `[models, ...]`.

    It is always finite.
    """
    wide = outputs.double()
    return F.logsigmoid(wide).logsumexp(0) - F.logsigmoid(-wide).logsumexp(0)


def log_no_and_yes(output: Tensor) -> Tensor:
    """Compute the log-probabilities of no and yes from logits of yes: `[...]` to `[..., 2]`."""
    output = wide(output)
    return F.logsigmoid(torch.stack([-output, output], dim=-1))


def distributions(labels: Tensor, classes: int) -> Tensor:
    """Write classes, `[examples]`, as distributions, `[examples, classes]`.

    Those that are such already stay.
    """
    return labels if labels.is_floating_point() else F.one_hot(labels, classes)


def smoothed(targets: Tensor, share: float, classes: int) -> Tensor:
    """Spread a share of each target, a chance in float32, evenly over so many classes."""
    return targets.float() * (1 - share) + share / classes
