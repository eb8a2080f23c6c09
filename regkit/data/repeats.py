"""Repeats: find rows that are alike by a hash of what they hold, a part of them at a time.

A row takes some bytes on the disk, and a part of all rows is in memory, so tens of millions of rows take little of it.
"""

import hashlib
import struct
from collections.abc import Hashable, Iterable, Iterator, Sequence

from regkit.data.stored.flat import Flat, Growing

PARTS = 64  # of the hashes; one is in memory at a time
SPILL = 1 << 17  # bytes of a part that stay in memory
RECORD = struct.Struct("=16sqq")  # the hash, and two numbers


class Hashed:
    """Things by their hashes, each with two numbers; read in parts, those that are alike in one."""

    def __init__(self, things: Iterable[tuple[Hashable, int, int]]) -> None:
        parts = [Growing(spill=SPILL) for _ in range(PARTS)]
        self.count = 0
        for thing, one, other in things:
            digest = hash_of(thing)
            parts[digest[0] * PARTS >> 8].write(RECORD.pack(digest, one, other))
            self.count += 1
        self._parts: Sequence[Flat] = [part.finish() for part in parts]

    def __iter__(self) -> Iterator[list[tuple[bytes, int, int]]]:
        """Yield hash and numbers of the things of each part, parts in the order of the hashes."""
        for part in self._parts:
            yield list(RECORD.iter_unpack(part.read(0, len(part))))
            part.forget()

    def repeated(self) -> int:
        """Count the things that stand earlier too."""
        return self.count - sum(len({digest for digest, _, _ in part}) for part in self)

    def shared(self, other: "Hashed") -> int:
        """Count the things that another has too."""
        found = 0
        for own, part in zip(self, other, strict=True):
            known = {digest for digest, _, _ in part}
            found += sum(digest in known for digest, _, _ in own)
        return found

    def contradicted(self) -> int:
        """Count the things that stand with another first number elsewhere."""
        found = 0
        for part in self:
            first: dict[bytes, int] = {}
            differ = {digest for digest, number, _ in part if first.setdefault(digest, number) != number}
            found += sum(digest in differ for digest, _, _ in part)
        return found


def hash_of(thing: Hashable) -> bytes:
    """Hash what Python writes for a thing, to 128 bits: in a billion things, no two are taken for one."""
    return hashlib.blake2b(repr(thing).encode("utf8", "backslashreplace"), digest_size=16).digest()


def number_of(thing: Hashable) -> int:
    """Hash a thing to a number of 64 bits."""
    return int.from_bytes(hash_of(thing)[:8], "big", signed=True)
