"""Alike: compare what several ways compute, before any of them is timed: outputs, and gradients by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from regkit.base.errors import RegkitError

TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}  # of a difference, as a share of the norm; the sums come in another order


class UnlikeError(RegkitError):
    """Two ways that are to be compared do not compute the same."""


@dataclass(frozen=True)
class Outcome:
    """What one step computes without dropout."""

    outputs: Tensor
    gradients: Mapping[str, Tensor] = field(default_factory=dict)  # by the names of transformers' modules


def compare(outcomes: Mapping[str, Outcome], precision: str) -> list[str]:
    """Compare each outcome with the first, and say how near they are. Raises UnlikeError where that is no rounding."""
    (base, first), *others = outcomes.items()
    farthest = [0.0, 0.0]
    for name, other in others:
        if other.outputs.shape != first.outputs.shape:
            shapes = [list(each.outputs.shape) for each in (other, first)]
            raise UnlikeError(f"'{name}' and '{base}' have outputs of other shapes: {shapes[0]} and {shapes[1]}.")
        outputs = distance(other.outputs, first.outputs)
        gradients, worst = _gradients(name, other, base, first)
        if not max(outputs, gradients) <= TOLERANCE[precision]:  # nan is no rounding either
            raise UnlikeError(
                f"'{name}' and '{base}' do not compute the same: outputs differ by {outputs:.1g} of their norm, gradients "
                f"by {gradients:.1g}, the most in {worst or 'none'}; nothing was timed."
            )
        farthest = [max(farthest[0], outputs), max(farthest[1], gradients)]
    if not others:
        return []
    outputs, gradients = (f"{value:.1g}" for value in farthest)
    also = f", gradients to {gradients}" if first.gradients else ""
    return [f"Without dropout, the outputs of these agree to {outputs} of their norm{also}: {'; '.join(outcomes)}."]


def _gradients(name: str, outcome: Outcome, base: str, first: Outcome) -> tuple[float, str]:
    """Measure how far all gradients together are from those of the first way, and name the one that is farthest."""
    if outcome.gradients.keys() != first.gradients.keys():
        unshared = sorted(outcome.gradients.keys() ^ first.gradients.keys())
        raise UnlikeError(
            f"'{name}' and '{base}' do not train the same weights: only one of them trains {unshared[0]}."
        )
    if not first.gradients:
        return 0.0, ""
    apart = {
        key: float((value.double() - first.gradients[key].double()).norm()) for key, value in outcome.gradients.items()
    }
    norm = torch.stack([value.double().norm() for value in first.gradients.values()]).norm()
    return float(torch.tensor(list(apart.values())).norm() / norm), max(apart, key=lambda key: apart[key])


def distance(one: Tensor, other: Tensor) -> float:
    """Measure the norm of a difference as a share of the norm."""
    return 0.0 if torch.equal(one, other) else float((one.double() - other.double()).norm() / other.double().norm())
