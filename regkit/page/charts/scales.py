"""Scales: place numbers on an axis, and choose the round numbers that are written beside it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST = 1e300  # a larger number would make the length of an axis infinite
STEPS = (1, 2, 2.5, 5, 10)  # of an axis, times a power of ten
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"  # the second stands where there is no number


@dataclass(frozen=True)
class Scale:
    """Map numbers from `low` to `high` onto pixels from `start` to `end`.

    On a logarithmic scale, they are all above 0.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False
    about: int = 4  # numbers that are written beside it

    def __call__(self, value: float) -> float:
        """Place a number; one that is outside, or not finite, is put at the nearer end."""
        low, high, value = (self._even(each) for each in (self.low, self.high, value))
        share = 0.5 if high == low else (value - low) / (high - low)
        share = min(max(share, 0.0), 1.0) if share == share else 0.0
        return self.start + share * (self.end - self.start)

    def _even(self, value: float) -> float:
        value = min(max(value, -MOST), MOST)
        return math.log10(max(value, 1 / MOST)) if self.logarithmic else value / 2  # a whole span would overflow

    def ticks(self) -> list[float]:
        """List the round numbers between the ends: powers of ten where the scale is logarithmic."""
        if not self.logarithmic:
            return ticks(self.low, self.high, self.about)
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        tens = [10.0**power for power in range(first, last + 1, max(1, (last - first) // self.about))]
        return tens if len(tens) > 1 else ticks(self.low, self.high, self.about)


def fitted(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    bounds: tuple[float, float] | None = None,
    about: int = 4,
    logarithmic: bool = False,
) -> Scale:
    """Make a scale that holds all these numbers and ends at round ones.

    `bounds` are numbers that it holds as well.
    """
    found = [min(max(value, -MOST), MOST) for value in [*values, *(bounds or ())] if math.isfinite(value)]
    low, high = min(found, default=0.0), max(found, default=1.0)
    if logarithmic:
        return Scale(low / 1.15, high * 1.15, start, end, logarithmic=True, about=about)
    if low == high:
        spread = abs(low) / 10  # 0 of the smallest numbers as well
        low, high = (low - spread, high + spread) if spread else (0.0, 1.0)
    step = _step(low, high, about)
    if step:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    return Scale(low, high, start, end, about=about)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """List about so many round numbers from `low` to `high`, both included where they are round."""
    step = _step(low, high, about)
    if not step:
        return [low]
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [number * step for number in range(first, last + 1)]


def _step(low: float, high: float, about: int) -> float:
    """Find the round step that cuts a span into about so many; 0 if there is none.

    It is 1, 2, 2.5 or 5 times a power of ten.
    """
    rough = (high / about) - (low / about)
    if not 0 < rough < math.inf or abs(high - low) < 1e-12 * max(abs(low), abs(high)):
        return 0.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next((step * power for step in STEPS if step * power >= rough * (1 - 1e-9)), 0.0) if power else 0.0


def labels(values: Sequence[float]) -> list[str]:
    """Write the numbers of an axis with as many decimals as tell them apart."""
    texts: list[str] = []
    for digits in range(2, 10):
        texts = [number(value, digits) for value in values]
        if len(set(texts)) == len(values) and all(
            _close(text, value) for text, value in zip(texts, values, strict=True)
        ):
            break
    return texts


def _close(text: str, value: float) -> bool:
    return math.isclose(float(text.replace(MINUS, "-")), value, rel_tol=1e-6, abs_tol=1e-300)


def number(value: float, digits: int = 3) -> str:
    """Write a number in so many digits, as a table shows it: `0.0123`, `12400`, `1.2e-07`."""
    if value != value:
        return DASH
    if not math.isfinite(value):
        return f"{MINUS if value < 0 else ''}\N{INFINITY}"
    value = value + 0.0  # -0.0 is 0
    whole = abs(value) >= 10 ** (digits - 1) and abs(value) < 1e7
    text = f"{value:.0f}" if whole else f"{value:.{digits}g}"
    return text.replace("-", MINUS, 1) if text.startswith("-") else text


def is_number(value: object) -> bool:
    """Tell whether a value of JSON is a finite number that a float can hold."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


def fixed(value: float) -> str:
    """Write a score in three decimals, so that those of a column stand below one another: `0.480`."""
    return f"{value:.3f}".replace("-", MINUS) if 0.001 <= abs(value) < 1000 or value == 0 else number(value)


def signed(value: float) -> str:
    """Write a difference with its sign: `+0.012`, or `+0.0004` where three decimals show nothing of it."""
    text = number(value, 1) if 0 < abs(value) < 0.001 else fixed(value)
    return f"+{text}" if value > 0 else text
