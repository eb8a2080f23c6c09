"""Batch: the texts of several examples end to end, without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from regkit.base.randomness import derive

Reduction = Literal["sum", "mean", "amax"]
Law = Literal["normal", "uniform"]


@dataclass(frozen=True)
class Batch:
    """A packed batch: `tokens` holds every sequence of every example, one after the other.

    A single text and a pair read together (cross-encoder) are one sequence an example, a pair read apart (bi-encoder) is
    two, side by side. There are no pads, so nothing can perturb, average or normalise over them by mistake.
    """

    tokens: Tensor  # [tokens] token ids
    segments: Tensor  # [tokens] 0 in the first text, 1 in the second of a pair read together
    positions: Tensor  # [tokens] place in its sequence, from 0
    starts: Tensor  # [sequences] where each sequence's first token, [CLS], stands
    counts: Tensor  # [sequences] tokens of each sequence
    sequence_of: Tensor  # [tokens] number of the token's sequence
    labels: Tensor | None  # [predictions]; one an example, but for masked words
    lengths: tuple[int, ...]  # `counts` as plain numbers, known without asking the device
    sides: int  # sequences of each example: 1 or 2
    rows: tuple[int, ...]  # row numbers of the examples in their table
    keys: tuple[int, ...]  # a number for each example and update, from which `noise` is derived
    targets: Tensor | None = None  # [predictions] numbers of the tokens predicted; None: a prediction an example

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
        """Lay sequences of token ids end to end; `segments` has one array of the same length for each."""
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
        """The number of examples."""
        return len(self.lengths) // self.sides

    @property
    def predictions(self) -> int:
        """The number of outputs that a loss is the mean over: the examples, or the masked words."""
        return len(self) if self.targets is None else len(self.targets)

    @property
    def example_lengths(self) -> list[int]:
        """Tokens of each example, both sides of a pair together."""
        found: list[int] = np.array(self.lengths).reshape(-1, self.sides).sum(1).tolist()
        return found

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths)

    @property
    def ragged(self) -> bool:
        return min(self.lengths) != self.longest

    @property
    def example_of(self) -> Tensor:
        """[tokens] number of the token's example; both sides of a pair belong to one."""
        return self.sequence_of // self.sides

    @cached_property
    def slots(self) -> Tensor:
        """[tokens] each token's place in a padded layout, `[sequences, longest]`, its two dimensions taken as one."""
        return self.sequence_of * self.longest + self.positions

    @cached_property
    def visible(self) -> Tensor:
        """[sequences, longest] which places of the padded layout hold a token."""
        return torch.arange(self.longest, device=self.counts.device) < self.counts[:, None]

    def per_example(self, values: Tensor, reduction: Reduction) -> Tensor:
        """Reduce `[tokens]` or `[tokens, width]` to one number an example, `[examples]`, over all its tokens."""
        if values.dim() == 2:
            values = getattr(values, reduction)(dim=1)  # every token is equally wide, so a mean of means is the mean
        lengths = self.counts.view(-1, self.sides).sum(1)
        name = reduction.replace("amax", "max")
        return torch.segment_reduce(values, name, lengths=lengths)  # unlike scatter, repeatable on CUDA

    def to_tokens(self, values: Tensor) -> Tensor:
        """Hand each token its example's row: `[examples, ...]` to `[tokens, ...]`."""
        return values[self.example_of]

    def rms(self, values: Tensor) -> Tensor:
        """`[tokens, 1]`: the root mean square of `[tokens, width]` over the token's example."""
        return self.to_tokens(self.per_example(values.square(), "mean").sqrt())[:, None]

    def noise(self, like: Tensor, purpose: str, law: Law = "normal") -> Tensor:
        """Random numbers in the shape of `like`, `[tokens, width]`, drawn example by example.

        Standard normal, or uniform from -1 to 1. They depend on the example, the update and `purpose`, which a plugin
        chooses, and not on how the batch was cut into micro-batches, as those of `torch.randn_like` do. Needs the `keys` that
        batches have in training.
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
        """The same batch with its tensors on `device`."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: part.to(device, non_blocking=True) for name, part in parts.items() if isinstance(part, Tensor)
        }
        return replace(self, **moved)
