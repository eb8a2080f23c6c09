"""Choice: make the random choices behind each example, the same on every machine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Chooser:
    """Makes the random choices of one draw; the same question always gets the same answer.

    It hashes where one expects `random.Random`: rows then do not depend on the version of Python, and a choice depends
    on what it is about, not on how many came before. So a speaker words two meanings alike wherever they agree.
    """

    seed: str

    def number(self, about: str) -> int:
        """Derive a whole number, of 64 bits, from what it is about."""
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{about}".encode()).digest()[:8], "big")

    def pick(self, options: Sequence[T], about: str) -> T:
        """Choose one of the options."""
        return options[self.number(about) % len(options)]

    def chance(self, percent: int, about: str) -> bool:
        """Decide yes or no, yes in `percent` of 100 cases."""
        return self.number(about) % 100 < percent

    def fork(self, name: str) -> "Chooser":
        """Make a chooser for a part of the draw, which answers the same questions in its own way."""
        return Chooser(f"{self.seed}/{name}")


class Example(NamedTuple):
    """One or two sentences and their label."""

    texts: tuple[str, ...]
    label: float  # of sentiment 0 to 4, of paraphrase 0 or 1, of similarity 0 to 5
