"""Choice: the repeatable answers behind each draw, and the example that comes of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Chooser:
    """Answers the questions of one draw; asked the same question twice, it gives the same answer.

    It hashes where one expects `random.Random`: rows then depend on no version of Python, and a choice depends on what
    it is about, not on how many came before. So a speaker words two meanings alike wherever they agree.
    """

    seed: str

    def number(self, about: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{about}".encode()).digest()[:8], "big")

    def pick(self, options: Sequence[T], about: str) -> T:
        return options[self.number(about) % len(options)]

    def chance(self, percent: int, about: str) -> bool:
        return self.number(about) % 100 < percent

    def fork(self, name: str) -> "Chooser":
        """For a part of the draw, which may then ask the same questions and get answers of its own."""
        return Chooser(f"{self.seed}/{name}")


class Example(NamedTuple):
    """One or two sentences and their label."""

    texts: tuple[str, ...]
    label: float  # of sentiment 0 to 4, of paraphrase 0 or 1, of similarity 0 to 5
