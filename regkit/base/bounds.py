"""Bounds: types of options and settings that say which numbers are allowed, and which worth trying."""

from dataclasses import dataclass
from math import isnan, nan
from typing import Annotated

from pydantic import Field

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Tuned:
    """Say where a search looks for an option: `Annotated[NonNegative, Tuned(0.1, 10, log=True)]`.

    A Literal or a bool needs no numbers: `Annotated[bool, Tuned()]` says that its choices are worth comparing. pydantic
    ignores this. Raises ValueError for a range that cannot be.
    """

    low: float = nan
    high: float = nan  # part of the range, as `low` is
    log: bool = False  # equal ratios are equally far apart, not equal differences
    step: float | None = None  # between two numbers that are tried, counted from `low`

    def __post_init__(self) -> None:
        if self.of_choices and (self.low, self.high, self.log, self.step) != (nan, nan, False, None):
            raise ValueError("a range has both a low and a high end")
        if self.of_choices:
            return
        if not self.low < self.high:
            raise ValueError(f"its low end, {self.low:g}, is not below its high end, {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log scale begins above 0, not at {self.low:g}")
        if self.log and self.step:
            raise ValueError("a log scale has no step")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError(f"a step of {self.step:g} does not fit into it")

    def __str__(self) -> str:
        """Write it as help and plans do: `0.1 to 10, log`."""
        if self.of_choices:
            return "its choices"
        scale = ", log" if self.log else f", step {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{scale}"

    @property
    def of_choices(self) -> bool:
        """Whether it has no numbers, and so means the choices of its type."""
        return isnan(self.low) or isnan(self.high)
