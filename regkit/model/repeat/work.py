"""Work: one pass of an encoder's layers at rounded sizes, forward and backward, as torch computes it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from regkit.model import tf32
from regkit.model.repeat.sizes import Rounded, Sizes, batch_of
from regkit.tasks.batch import Batch


class Layers(Protocol):
    """An encoder whose layers are repeated."""

    def compute(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Compute what `Encoder.encode` returns."""
        ...


class Begun(Protocol):
    """A pass under way."""

    def forward(self) -> Tensor:
        """Return the hidden states."""
        ...

    def backward(self, gradient: Tensor, whole: bool) -> tuple[Tensor | None, Tensor | None]:
        """Compute the gradient of the embeddings and, if `whole`, those of the weights, end to end.

        After a whole one there is no other.
        """
        ...


class Manner(NamedTuple):
    """All but sizes and numbers that the operations of a pass depend on."""

    gradients: bool  # whether a backward pass may follow
    moved: bool  # whether it computes the embeddings' gradient
    format: torch.dtype | None  # of autocast
    products: object  # of float32: torch's switch of TF32
    modes: tuple[object, ...]  # of the modules: training or not, and the rates of dropout
    weights: tuple[int, ...]  # where they are in memory
    trained: tuple[bool, ...]  # which of them have gradients


@dataclass(frozen=True)
class Work:
    """A pass from `[tokens, width]` to the hidden states, of the first tokens alone or of all."""

    layers: Layers
    modules: Sequence[nn.Module]  # all that compute
    weights: Sequence[nn.Parameter]  # theirs
    sizes: Sizes
    first: bool
    manner: Manner

    @property
    def key(self) -> tuple[object, ...]:
        """What two passes have in common that are the same operations."""
        return self.sizes, self.first, self.manner

    @property
    def trained(self) -> list[nn.Parameter]:
        """The weights that have gradients."""
        return [weight for weight in self.weights if weight.requires_grad] if self.manner.gradients else []

    def compute(self, embeddings: Tensor, given: Rounded) -> Tensor:
        """Compute the hidden states."""
        batch = batch_of(given, self.sizes)
        return self.layers.compute(embeddings, batch, batch.starts if self.first else None)

    @contextmanager
    def aliased(self) -> Iterator["Work"]:
        """Compute with other leaves of torch's graph in place of the weights, in the same memory."""
        places = [(each._parameters, name) for each in self.modules for name in each._parameters]
        taken = [(of, name, weight) for of, name in places if (weight := of[name]) is not None]
        others = {id(weight): nn.Parameter(weight.detach(), weight.requires_grad) for weight in self.weights}
        try:
            for of, name, weight in taken:
                of[name] = others[id(weight)]
            yield replace(self, weights=list(others.values()))
        finally:
            for of, name, weight in taken:
                of[name] = weight

    @contextmanager
    def again(self, device: torch.device, cached: bool = True) -> Iterator[None]:
        """Compute as where the work was begun; `cached` says whether casts of weights may be kept."""
        number = self.manner.format
        casts = torch.autocast(device.type, number or torch.bfloat16, enabled=number is not None, cache_enabled=cached)
        gradients = torch.enable_grad() if self.manner.gradients else nullcontext()
        with casts, gradients, tf32.switched(self.manner.products):
            yield


class Pass:
    """A pass as torch computes it, operation by operation."""

    def __init__(self, work: Work, embeddings: Tensor, given: Rounded) -> None:
        self.work, self.input = work, embeddings.detach().requires_grad_(work.manner.moved)
        with torch.enable_grad() if work.manner.gradients else nullcontext():
            self.output = work.compute(self.input, given)

    def forward(self) -> Tensor:
        return self.output.detach()

    def backward(self, gradient: Tensor, whole: bool) -> tuple[Tensor | None, Tensor | None]:
        moved, rest = gradients(self.work, self.output, self.input, gradient, whole, keep=not whole)
        return moved, torch.cat(rest) if rest else None


def gradients(
    work: Work, output: Tensor, embeddings: Tensor, gradient: Tensor, whole: bool, *, keep: bool, again: bool = False
) -> tuple[Tensor | None, list[Tensor]]:
    """Go back through a pass, to the embeddings and, if `whole`, to each of the weights.

    The gradients of weights are flat.
    `keep` lets another backward pass follow; `again` gives the gradients gradients of their own.
    """
    sought = [*[embeddings] * work.manner.moved, *(work.trained if whole else [])]
    with tf32.switched(work.manner.products), torch.autocast(gradient.device.type, enabled=False):
        found = torch.autograd.grad(output, sought, gradient, retain_graph=keep or again, create_graph=again)
    moved, rest = (found[0], found[1:]) if work.manner.moved else (None, found)
    return moved, [each.reshape(-1) for each in rest]
