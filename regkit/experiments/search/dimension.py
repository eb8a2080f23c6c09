"""Dimension: one option that a search varies, and between which values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regkit.base.bounds import NONE, Tuned

CHOICES = Tuned()
Choice = str | int | float | bool | None


@dataclass(frozen=True)
class Dimension:
    """One option that a search varies: over a range of numbers, or over choices."""

    name: str  # as in a file: `learning_rate`, `smart.epsilon`, `weighted.weights.sst`
    default: Any  # the value where nothing is searched
    range: Tuned = CHOICES
    whole: bool = False  # only whole numbers
    choices: Sequence[Choice] = ()  # numbers in ascending order

    def __str__(self) -> str:
        """Write what is searched, and what the default is: `smart.epsilon: 0.003 to 0.3, log (default 0.01)`."""
        values = ", ".join(map(written, self.choices)) or self.range
        return f"{self.name}: {values} (default {written(self.default)})"

    def as_value(self) -> str | list[Any]:
        """Write it as a file has it: `0.003..0.3 log`, or a list of choices."""
        if self.choices:
            return [NONE if choice is None else choice for choice in self.choices]
        scale = " log" if self.range.log else f" step {_digits(self.range.step)}" if self.range.step else ""
        return f"{_digits(self.range.low)}..{_digits(self.range.high)}{scale}"

    @property
    def ordered(self) -> bool:
        """Whether its choices are numbers, of which those that are close are alike."""
        return all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in self.choices)

    def contains(self, value: Any) -> bool:
        """Whether the search could try this value."""
        if self.choices:
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.range.low <= value <= self.range.high:
            return False
        steps = (value - self.range.low) / self.range.step if self.range.step else 0.0
        return math.isclose(steps, round(steps), abs_tol=1e-9)


Space = Mapping[str, Dimension]  # by name


def point(values: Mapping[str, Any]) -> str:
    """Write the values of a trial: `learning_rate = 0.0001, smart.steps = 2`."""
    return ", ".join(f"{name} = {written(value)}" for name, value in values.items())


def written(value: Any) -> str:
    """Write a value as a file and a table show it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _digits(number: float) -> str:
    """Write a number exactly, and 10 and 10.0 alike.

    A declared bound may be either, and one read from a file is a float.
    """
    return str(int(number)) if float(number).is_integer() and abs(number) < 1e15 else repr(number)
