"""Held: sequences of texts and numbers whose items are made when they are asked for."""

import reprlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import eq
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, overload

from regkit.data.stored.flat import Flat, Growing

BLOCK = 1 << 12  # items that are Python's objects at once
SPAN = 1 << 22  # bytes that are read in one piece, if the texts of a block stand so close together

Item = TypeVar("Item")
Source = TypeVar("Source")


class Held(Sequence[Item], Generic[Item]):
    """A sequence whose items are made when they are asked for; `places` are those chosen of the whole."""

    def __init__(self, whole: int, places: Sequence[int] | None = None) -> None:
        self.whole = whole
        self.places: Sequence[int] = range(whole) if places is None else places

    def at(self, places: Sequence[int]) -> Sequence[Item]:
        """Make the items at these places of the whole."""
        raise NotImplementedError

    def only(self, rows: Iterable[int]) -> Self:
        """Choose rows of this sequence. All that it costs is their places, four bytes each."""
        places = room_for(self.whole)
        places.extend(self.places[row] for row in rows)
        return self.placed(places)

    def placed(self, places: Sequence[int]) -> Self:
        """Choose these places of the whole."""
        return self._with(places=places)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, row: int) -> Item: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Item]: ...
    def __getitem__(self, row: int | slice) -> Item | Sequence[Item]:
        return self.at(self.places[row]) if isinstance(row, slice) else self.at([self.places[row]])[0]

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), BLOCK):
            yield from self.at(self.places[start : start + BLOCK])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return reprlib.repr(list(self[: reprlib.aRepr.maxlist + 1]))

    def __getstate__(self) -> dict[str, Any]:
        places = array("q", self.places) if isinstance(self.places, memoryview) else self.places
        return {**vars(self), "places": places}

    def _with(self, **changes: Any) -> Self:
        found = object.__new__(type(self))
        vars(found).update(vars(self) | changes)
        return found


class Made(Held[Item], Generic[Source, Item]):
    """What a function makes of each item of another sequence."""

    def __init__(self, make: Callable[[Source], Item], source: Held[Source]) -> None:
        super().__init__(source.whole, source.places)
        self._make, self._source = make, source

    def at(self, places: Sequence[int]) -> Sequence[Item]:
        return list(map(self._make, self._source.at(places)))


class Numbers(Held[int]):
    """Whole numbers, eight bytes each."""

    kind = "q"  # as `struct` calls it

    def __init__(self, content: Flat) -> None:
        super().__init__(len(content) // array(self.kind).itemsize)
        self.content = content

    @classmethod
    def of(cls, values: Iterable[int]) -> Self:
        """Hold these numbers."""
        growing = Growing()
        growing.write(array(cls.kind, values).tobytes())
        return cls(growing.finish())

    def at(self, places: Sequence[int]) -> Sequence[int]:
        first, last = _around(places)
        if last - first > SPAN:
            return [self.content.numbers(place, place + 1, self.kind)[0] for place in places]
        found = self.content.numbers(first, last, self.kind)
        return [found[place - first] for place in places]


class Marks(Numbers):
    """Numbers from 0 to 255, a byte each."""

    kind = "B"


class Numbered(Held[str]):
    """The numbers of rows as text, by which rows without an id are called."""

    def at(self, places: Sequence[int]) -> Sequence[str]:
        return list(map(str, places))


class Texts(Held[str]):
    """Texts, as UTF-8 end to end."""

    def __init__(self, content: Flat, ends: Flat) -> None:
        super().__init__(len(ends) // 8 - 1)
        self.content, self.ends = content, ends  # text i has the bytes from ends[i] to ends[i + 1], eight bytes each

    def at(self, places: Sequence[int]) -> Sequence[str]:
        first, last = _around(places)
        if last - first > SPAN:
            return [self._alone(place) for place in places]
        ends = self.ends.numbers(first, last + 1).tolist()
        if ends and ends[-1] - ends[0] > SPAN:
            return [self._alone(place) for place in places]
        piece = self.content.read(ends[0], ends[-1]) if ends else b""
        spans = ((ends[place - first] - ends[0], ends[place - first + 1] - ends[0]) for place in places)
        return [_decoded(piece[start:stop]) for start, stop in spans]

    def _alone(self, place: int) -> str:
        return _decoded(self.content.read(*self.ends.numbers(place, place + 2)))


def _decoded(content: bytes) -> str:
    return content.decode("utf8", "surrogatepass")


def room_for(count: int) -> "array[int]":
    """Make an empty array for places of a sequence so long, in four bytes each if they fit."""
    return array("i" if count < 1 << 31 else "q")


def _around(places: Sequence[int]) -> tuple[int, int]:
    """Find the smallest range that holds all of these places."""
    return (min(places), max(places) + 1) if len(places) else (0, 0)


class TextWriter:
    """Writes texts one after the other, into files of this name or into none."""

    def __init__(self, path: Path | None = None) -> None:
        self._content, self._ends = Growing(path), Growing(path and ends_of(path))
        self._waiting: list[bytes] = []
        self._end = 0
        self._ends.write(bytes(8))

    def add(self, text: str) -> None:
        """Append a text."""
        self._waiting.append(text.encode("utf8", "surrogatepass"))
        if len(self._waiting) == BLOCK:
            self._flush()

    def finish(self) -> Texts:
        """End the texts."""
        self._flush()
        return Texts(self._content.finish(), self._ends.finish())

    def _flush(self) -> None:
        ends = array("q", accumulate(map(len, self._waiting), initial=self._end))[1:]
        self._content.write(b"".join(self._waiting))
        self._ends.write(ends.tobytes())
        self._end = ends[-1] if ends else self._end
        self._waiting.clear()


def ends_of(path: Path) -> Path:
    """Name the file in which it stands where each text of another file ends."""
    return path.with_name(f"{path.name}.ends")
