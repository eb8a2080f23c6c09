"""Repeated: decide which passes are repeated, and by what."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from regkit.model import tf32
from regkit.model.plain import has_hooks, is_transformed
from regkit.model.repeat.function import join, run
from regkit.model.repeat.graphs import Graphs
from regkit.model.repeat.sizes import Rounded, rounded, sizes_of
from regkit.model.repeat.work import Begun, Layers, Manner, Pass, Work
from regkit.tasks.batch import Batch

MOST = 8192  # tokens of a pass: with more, a GPU computes for longer than it takes to queue the operations
TIMES = 2  # that a pass is computed as it is before it is captured: sizes that are rare are not worth it
REMEMBERED = 4096  # kinds of passes
OFF = ContextVar("OFF", default=False)


class Repeated:
    """Computes passes of one encoder at rounded sizes, and the usual ones as CUDA graphs.

    A graph gives the same bits as torch's operations one by one, so when one is captured changes nothing.
    """

    def __init__(self, devices: Sequence[str] = ("cuda",)) -> None:
        self.devices = devices
        self.graphs = Graphs()
        self.seen: Counter[tuple[object, ...]] = Counter()
        self.joined: tuple[tuple[int, ...], Tensor] | None = None  # and whose place it takes

    def __deepcopy__(self, memo: Any) -> "Repeated":
        return Repeated(self.devices)  # a copy of a model has other weights

    def __reduce__(self) -> tuple[type["Repeated"], tuple[Sequence[str]]]:
        return Repeated, (self.devices,)

    def takes(self, embeddings: Tensor, batch: Batch) -> bool:
        """Whether a pass is computed here: where that is faster, and with nothing unusual."""
        return (
            embeddings.device.type in self.devices
            and not OFF.get()
            and len(batch.tokens) <= MOST
            and not is_transformed()
            and not torch.is_inference_mode_enabled()
        )

    def encode(
        self, layers: Layers, modules: Sequence[nn.Module], embeddings: Tensor, batch: Batch, first: bool
    ) -> Tensor:
        """Compute hidden states from word embeddings, `[tokens, width]`.

        With `first`, they are those of first tokens alone. `modules` are all that compute them.
        """
        sizes = sizes_of(batch.lengths)
        padded = F.pad(embeddings, (0, 0, 0, sizes.tokens - len(embeddings)))
        placed = (weight for module in modules for weight in module._parameters.values() if weight is not None)
        weights = list({id(weight): weight for weight in placed}.values())  # each once, wherever it is shared
        work = Work(layers, modules, weights, sizes, first, manner_of(modules, weights, embeddings))
        given = rounded(batch, sizes)
        # Hooks may read torch's graph, in which such a pass is one operation; what is computed is no place for gradients.
        if any(map(has_hooks, modules)) or not all(weight.is_leaf for weight in weights):
            found = work.compute(padded, given)
        else:
            found = run(work, padded, given, self._joined(work.trained), self.begin)
        return found[: len(batch.starts) if first else len(embeddings)]

    def begin(self, work: Work, embeddings: Tensor, given: Rounded) -> Begun:
        """Begin a pass: as a graph, if it was made often enough for one, and nobody counts the operations."""
        captured = embeddings.is_cuda and not is_in_torch_dispatch_mode() and self._usual(work)
        return (captured and self.graphs.begin(work, embeddings, given)) or Pass(work, embeddings, given)

    def _usual(self, work: Work) -> bool:
        """Whether a pass was made often enough, and count it if it was not."""
        if self.seen[work.key] >= TIMES:
            return True
        if len(self.seen) > REMEMBERED:
            self.seen.clear()
        self.seen[work.key] += 1
        return False

    def _joined(self, weights: Sequence[nn.Parameter]) -> Tensor | None:
        if not weights:
            return None
        whose = tuple(map(id, weights))
        if self.joined is None or self.joined[0] != whose:
            self.joined = whose, join(weights)
        return self.joined[1]


@contextmanager
def one_by_one() -> Iterator[None]:
    """Compute the passes of the block as torch does, at the sizes that they have."""
    before = OFF.set(True)
    try:
        yield
    finally:
        OFF.reset(before)


def manner_of(modules: Sequence[nn.Module], weights: Sequence[nn.Parameter], embeddings: Tensor) -> Manner:
    """Find all that operations depend on beside sizes and numbers."""
    kind, gradients = embeddings.device.type, torch.is_grad_enabled()
    trained = tuple(weight.requires_grad for weight in weights)
    moved = gradients and embeddings.requires_grad
    return Manner(
        gradients=gradients and (moved or any(trained)),
        moved=moved,
        format=torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None,
        products=tf32.switch(),
        modes=tuple((module.training, vars(module).get("rate")) for module in modules),
        weights=tuple(weight.data_ptr() for weight in weights),
        trained=trained,
    )
