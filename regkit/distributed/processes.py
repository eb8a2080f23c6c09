"""Processes: share every batch among the processes of a run, and add up what they computed.

Every process holds the whole model and sees the same numbers: gradients, losses and outputs are summed over all of them,
and what only the first knows is told to the others. One process alone is the same code with nothing to sum.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from regkit.base.errors import ApartError, LostError, RegkitError
from regkit.base.failures import ran_out

T = TypeVar("T")

CPU = torch.device("cpu")
BUCKET = 2**23  # numbers of gradients that are summed in one go: 32 MiB
LOST = "another process of this run has ended, so this one ends too"


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them."""

    rank: int = 0  # of this process, from 0
    count: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def own(self, parts: Sequence[T]) -> Iterator[tuple[int, T, bool]]:
        """Iterate over the numbered parts of this process: part n belongs to process n modulo `count`.

        All processes get equally many: one that has none left repeats another's part, which then does not count.
        """
        for first in range(0, len(parts), self.count):
            number = first + self.rank
            counts = number < len(parts)
            yield (number, parts[number], True) if counts else (first, parts[first], False)

    def sum(self, values: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        if self.count > 1:
            with lost():
                dist.all_reduce(values)
        return values

    def largest(self, *numbers: int) -> list[int]:
        """Find the largest of each number over all processes."""
        if self.count == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.int64)  # on the CPU, which then does not wait for the GPU's work
        with lost():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return found.tolist()

    def any(self, holds: bool) -> bool:
        """Whether something holds for at least one process."""
        return bool(self.largest(int(holds))[0])

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.largest(0)

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """If one process runs out of memory inside, raise in all of them. All have to enter this block."""
        try:
            yield
        except Exception as error:
            if ran_out(error):
                self.any(True)
            raise
        if self.any(False):
            raise MemoryError("memory ran out in another process of this run")

    def alike(self, value: bytes) -> bool:
        """Whether every process has the same value."""
        number = int.from_bytes(hashlib.blake2b(value, digest_size=7).digest(), "big")
        highest, lowest = self.largest(number, -number)
        return highest == -lowest

    def gather(self, value: Any) -> list[Any]:
        """Collect a value from each process, as JSON carries it, in the order of their ranks."""
        if self.count == 1:
            return [value]
        said = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        room = self.largest(len(said))[0]
        mine = torch.zeros(room + 8, dtype=torch.uint8)
        mine[:8] = torch.tensor([len(said)]).view(torch.uint8)
        mine[8 : 8 + len(said)] = said
        rows = [torch.empty_like(mine) for _ in range(self.count)]
        with lost():
            dist.all_gather(rows, mine)
        found = [bytes(row.numpy()) for row in rows]
        return [json.loads(row[8 : 8 + int.from_bytes(row[:8], "little")]) for row in found]

    def sum_losses(self, losses: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Add up the losses of each process's share to those of whole batches, by task and term."""
        plain = {task: dict(terms) for task, terms in losses.items()}
        if self.count == 1:
            return plain
        names = sorted((task, term) for task, terms in plain.items() for term in terms)
        if not self.alike(repr(names).encode()):  # a share without examples, or a plugin with nothing to say of one
            names = sorted({(task, term) for found in self.gather(names) for task, term in found})
        nothing = torch.zeros((), device=self.device)
        values = self.sum(torch.stack([plain[task].get(term, nothing).float() for task, term in names]))
        for (task, term), value in zip(names, values, strict=True):
            plain[task][term] = value
        return plain

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up `.grad` over all processes, for each parameter that has one in any of them."""
        if self.count == 1:
            return
        owners = [each for each in parameters if each.requires_grad]
        there = self.largest(*(int(owner.grad is not None) for owner in owners))
        gradients = []
        for owner, needed in zip(owners, there, strict=True):
            if needed:
                owner.grad = torch.zeros_like(owner) if owner.grad is None else owner.grad
                gradients.append(owner.grad)
        for bucket in _buckets(gradients):
            flat = self.sum(torch.cat([gradient.flatten() for gradient in bucket]))
            for gradient, part in zip(bucket, torch.split(flat, [each.numel() for each in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def check_alike(self, parameters: Iterable[Tensor]) -> None:
        """Raise ApartError if the processes no longer have the same weights."""
        if self.count == 1:
            return
        with torch.no_grad():
            sums = torch.stack([each.sum(dtype=torch.float64) for each in parameters])
        if not self.alike(sums.cpu().numpy().tobytes()):
            raise ApartError(
                "the processes of this run no longer have the same weights; a plugin did not do the same in each: begin a "
                "new run without it."
            )


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group neighbouring gradients of one type, each group of at most `BUCKET` numbers or a single tensor."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        size = sum(each.numel() for each in bucket) + gradient.numel()
        if bucket and (size > BUCKET or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


ALONE = Processes()


@contextmanager
def lost() -> Iterator[None]:
    """Turn torch's error about a process that is gone into one sentence."""
    try:
        yield
    except RegkitError:
        raise
    except RuntimeError as error:
        raise LostError(f"{LOST}.") from error
