"""Batch: the texts of several examples end to end, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from regkit.base.randomness import derive

Reduction = Literal["sum", "mean", "amax"]
Law = Literal["normal", "uniform"]

ALIGNED = 16  # bytes: where a tensor of any type may begin in memory


@dataclass(frozen=True)
class Batch:
    """A packed batch: `tokens` holds every sequence of every example, one after the other.

    A single text and a pair read together (cross-encoder) are one sequence an example, a pair read apart (bi-encoder) is
    two, side by side. There is no padding, so nothing can perturb, average or normalise over it by mistake.
    """

    tokens: Tensor  # [tokens] token ids
    segments: Tensor  # [tokens] 0 in the first text, 1 in the second of a pair read together
    positions: Tensor  # [tokens] place in its sequence, from 0
    starts: Tensor  # [sequences] index of each sequence's first token, [CLS]
    counts: Tensor  # [sequences] tokens of each sequence
    sequence_of: Tensor  # [tokens] index of the sequence that the token belongs to
    labels: Tensor | None  # [predictions] one for each example, or for each masked word; or [examples, classes]
    lengths: tuple[int, ...]  # `counts` as Python numbers, which nobody has to wait for the device to read
    sides: int  # sequences of each example: 1 or 2
    rows: tuple[int, ...]  # row numbers of the examples in their split
    keys: tuple[int, ...]  # a number for each example and update, from which `noise` is derived
    targets: Tensor | None = None  # [predictions] indices of the tokens to predict; None: one prediction an example

    @classmethod
    def pack(
        cls,
        sequences: Sequence[np.ndarray],
        segments: Sequence[np.ndarray],
        *,
        labels: Tensor | None = None,
        sides: int = 1,
        rows: Sequence[int] = (),
        keys: Sequence[int] = (),
        targets: Tensor | None = None,
    ) -> "Batch":
        """Pack sequences of token ids end to end; `segments` has one array of the same length for each."""
        lengths = np.array([len(sequence) for sequence in sequences])
        starts = np.cumsum(lengths) - lengths
        return cls(
            tokens=torch.from_numpy(np.concatenate(sequences).astype(np.int64)),
            segments=torch.from_numpy(np.concatenate(segments).astype(np.int64)),
            positions=torch.from_numpy(np.arange(lengths.sum()) - np.repeat(starts, lengths)),
            starts=torch.from_numpy(starts),
            counts=torch.from_numpy(lengths),
            sequence_of=torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)),
            labels=labels,
            lengths=tuple(lengths.tolist()),
            sides=sides,
            rows=tuple(rows),
            keys=tuple(keys),
            targets=targets,
        )

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.lengths) // self.sides

    @property
    def predictions(self) -> int:
        """The number of predictions that a loss averages over: the examples, or the masked words."""
        return len(self) if self.targets is None else len(self.targets)

    @property
    def example_lengths(self) -> list[int]:
        """The number of tokens of each example, both sides of a pair together."""
        found: list[int] = np.array(self.lengths).reshape(-1, self.sides).sum(1).tolist()
        return found

    @property
    def longest(self) -> int:
        """The number of tokens of the longest sequence."""
        return max(self.lengths)

    @property
    def ragged(self) -> bool:
        """Whether the sequences differ in length, so that a padded layout has padding."""
        return min(self.lengths) != self.longest

    @property
    def example_of(self) -> Tensor:
        """The index of each token's example, `[tokens]`; both sides of a pair belong to one example."""
        return self.sequence_of // self.sides

    @cached_property
    def slots(self) -> Tensor:
        """The index of each token in a padded layout, `[sequences, longest]` flattened: `[tokens]`."""
        return self.sequence_of * self.longest + self.positions

    @cached_property
    def bounds(self) -> Tensor:
        """Where each sequence begins, and behind it the end of the last: `[sequences + 1]`, in 32 bits."""
        return F.pad(self.starts, (0, 1), value=len(self.tokens)).int()

    @cached_property
    def visible(self) -> Tensor:
        """Whether a place of the padded layout holds a token and not padding, `[sequences, longest]`."""
        return torch.arange(self.longest, device=self.counts.device) < self.counts[:, None]

    def per_example(self, values: Tensor, reduction: Reduction) -> Tensor:
        """Reduce `[tokens]` or `[tokens, width]` over all tokens of each example, to `[examples]`.

        Raises ValueError for values that are not those of the batch's tokens.
        """
        if values.dim() == 2:
            values = getattr(values, reduction)(dim=1)  # every token is equally wide, so a mean of means is the mean
        return self._reduced(values, reduction, self.counts.view(-1, self.sides).sum(1))

    def per_sequence(self, values: Tensor, reduction: Reduction) -> Tensor:
        """Reduce `[tokens, width]` over the tokens of each sequence, to `[sequences, width]`.

        Raises ValueError as `per_example`.
        """
        return self._reduced(values, reduction, self.counts)

    def _reduced(self, values: Tensor, reduction: Reduction, lengths: Tensor) -> Tensor:
        if len(values) != len(self.tokens):
            raise ValueError(f"there are {len(values)} rows of values, and the batch has {len(self.tokens)} tokens")
        name = reduction.replace("amax", "max")  # torch's own check of the lengths waits for the GPU
        return torch.segment_reduce(values, name, lengths=lengths, unsafe=values.is_cuda)  # repeatable, unlike scatter

    def to_tokens(self, values: Tensor) -> Tensor:
        """Repeat each example's row for each of its tokens: `[examples, ...]` to `[tokens, ...]`."""
        return values[self.example_of]

    def rms(self, values: Tensor) -> Tensor:
        """Compute the root mean square of `[tokens, width]` over each token's example: `[tokens, 1]`."""
        return self.to_tokens(self.per_example(values.square(), "mean").sqrt())[:, None]

    def noise(self, like: Tensor, purpose: str, law: Law = "normal") -> Tensor:
        """Draw random numbers in the shape of `like`, `[tokens, width]`, for each example by itself.

        They are standard normal, or uniform from -1 to 1. They depend on the example, the update and `purpose`, a name
        that the plugin chooses; unlike those of `torch.randn_like`, they do not depend on how the batch was cut into
        micro-batches. Raises ValueError for a batch without the `keys` that batches have in training.
        """
        if len(self.keys) != len(self):
            raise ValueError("this batch has no keys; noise is for the batches of training")
        found = torch.empty_like(like)
        generator = torch.Generator(like.device)
        for key, part in zip(self.keys, torch.split(found, self.example_lengths), strict=True):
            generator.manual_seed(derive(key, purpose))
            if law == "normal":
                part.normal_(generator=generator)
            else:
                part.uniform_(-1, 1, generator=generator)
        return found

    def to(self, device: torch.device) -> "Batch":
        """Return the same batch with its tensors on `device`."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
        if device.type == "cuda" and self.tokens.device.type == "cpu":
            moved: dict[str, Any] = dict(zip(tensors, copied_together(list(tensors.values()), device), strict=True))
        else:
            moved = {name: part.to(device) for name, part in tensors.items()}
        return replace(self, **moved)


def copied_together(tensors: Sequence[Tensor], device: torch.device, pinned: bool = True) -> list[Tensor]:
    """Copy small tensors from the CPU to a GPU, all in one go and from pinned memory.

    So nothing waits for the copy.
    """
    sizes = [-(-tensor.nbytes // ALIGNED) * ALIGNED for tensor in tensors]
    room = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=pinned)
    for tensor, part in zip(tensors, torch.split(room, sizes), strict=True):
        _read_as(part, tensor).copy_(tensor)
    there = torch.split(room.to(device, non_blocking=True), sizes)
    return [
        _read_as(part.data, tensor) for part, tensor in zip(there, tensors, strict=True)
    ]  # each with its own version


def _read_as(part: Tensor, like: Tensor) -> Tensor:
    """Read bytes as a tensor of another's type and shape."""
    return part[: like.nbytes].view(like.dtype).view(like.shape)
