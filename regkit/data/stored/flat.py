"""Flat: arrays written end to end, in memory while they are small, else in a file that is mapped.

A row of a table takes half a kilobyte as objects of Python, and its own bytes here. The system reads what is mapped when it
is needed, and forgets it when memory is scarce. numpy is not needed, so looking into a file does not wait for it.
"""

import mmap
import os
import tempfile
from array import array
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from regkit.base.errors import DataError
from regkit.base.kept import UnkeptError, cache_root

SPILL = 1 << 22  # bytes that an array without a name holds in memory; a larger one is on the disk
FORGET = 1 << 24  # bytes read of a mapped array, after which the process lets go of its pages


class Flat:
    """A finished array of bytes, which is mapped where it is in a file."""

    def __init__(self, content: bytearray | mmap.mmap) -> None:
        self.content = content
        self._read = 0

    @classmethod
    def open(cls, file: IO[bytes]) -> "Flat":
        """Map a file. What is written to the array does not reach it."""
        size = os.fstat(file.fileno()).st_size
        if not size:  # which cannot be mapped
            return cls(bytearray())
        return cls(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY))  # torch warns of what cannot be written to

    def __len__(self) -> int:
        return len(self.content)

    def __reduce__(self) -> tuple[Any, ...]:
        return Flat, (bytearray(self.content),)

    def read(self, start: int, stop: int) -> bytes:
        """Copy a part. Now and then, pages that were read are forgotten, lest they fill the memory."""
        found = bytes(self.content[start:stop])
        self._read += len(found)
        if self._read > FORGET:
            self.forget()
        return found

    def forget(self) -> None:
        """Let go of the pages that were read. For arrays that are only read: what was written is lost."""
        self._read = 0
        if isinstance(self.content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.content.madvise(mmap.MADV_DONTNEED)

    def numbers(self, start: int, stop: int, kind: str = "q") -> "array[int]":
        """Copy some of the numbers that the bytes are, of a kind that `array` names."""
        found: array[int] = array(kind)
        found.frombytes(self.read(start * found.itemsize, stop * found.itemsize))
        return found


class Growing:
    """An array that is written from its beginning to its end.

    With a path it is that file. Without one it is in memory, and beyond `spill` bytes in a file without a name, which the
    system removes. Raises DataError where such a file has no room.
    """

    def __init__(self, path: Path | None = None, spill: int = SPILL) -> None:
        self.path, self.spill, self.size = path, spill, 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = path.open("wb+") if path else None

    def __del__(self) -> None:
        """Close the file where an error has left it open; what a full disk does not take is lost anyway."""
        with suppress(OSError, AttributeError):
            if self._file:
                self._file.close()

    def write(self, content: "bytes | bytearray | memoryview[Any]") -> None:
        """Append bytes."""
        self.size += len(content)
        if self._file is None and self.size <= self.spill:
            self._memory += content
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile("wb+", dir=_roomy())  # noqa: SIM115 - closed by `finish`
                self._file.write(self._memory)
                self._memory.clear()
            self._file.write(content)
        except OSError as error:
            if self.path:
                raise
            raise DataError(f"{_roomy()} has no room for the rows that are read: {error.strerror}.") from None

    def finish(self) -> Flat:
        """End the array, and map it where it is in a file."""
        if self._file is None:
            return Flat(self._memory)
        with self._file as file:
            file.flush()
            return Flat.open(file)


def _roomy() -> str:
    """Find the disk for files without a name: that of the cache if it can be, as /tmp may be memory."""
    with suppress(UnkeptError):
        if (root := cache_root()).is_dir() and os.access(root, os.W_OK | os.X_OK):
            return str(root)
    return tempfile.gettempdir()
