"""Bounds: types of options and settings that say which numbers are allowed, and which worth trying."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import isnan, nan
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
SLOWEST = 1e-30  # learning rate; a lower one is 0 in float32 before long
LearningRate = Annotated[float, Field(ge=SLOWEST)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

CHOSEN = ("literal_error", "enum")  # pydantic's complaints about a value that is none of the choices

NONE = "none"  # how a user writes that a setting or an option is left out: neither TOML nor a command line has another word


def convert(hint: Any, value: object) -> Any:
    """Check a value by its type, and convert text.

    Raises pydantic's ValidationError, and PydanticUserError for a type that it does not know.
    """
    config = ConfigDict(allow_inf_nan=False)
    return TypeAdapter(Annotated[hint, WrapValidator(as_written)], config=config).validate_python(value)


def as_written(value: object, check: ValidatorFunctionWrapHandler) -> Any:
    """Check a value as its field does, but take true and false for no numbers, and the word none for None.

    pydantic makes 1 and 0 of the former. The word stays one where the field takes any text. A number is a choice as text,
    too, which pydantic does not read.
    """
    try:
        found = check(value)
    except ValidationError as error:
        if value == NONE:
            with suppress(ValidationError):
                return check(None)
        if any(each["type"] in CHOSEN for each in error.errors(include_url=False)):
            for kind in (int, float):
                with suppress(ValidationError):
                    return check(_numbers(kind, value))
        raise
    if _truth_as_number(value, found):
        raise ValueError("a number is needed, and not true or false")
    return found


def _numbers(kind: type[int] | type[float], value: object) -> object:
    """Read text as a number where it is one, also within a list."""
    if isinstance(value, list):
        return list(map(partial(_numbers, kind), value))
    with suppress(ValueError):
        return kind(value) if isinstance(value, str) else value
    return value


def _truth_as_number(value: object, found: object) -> bool:
    """Tell whether a truth value has become a number, also within a list or a table."""
    pairs = leaves(value, found)
    return any(
        isinstance(old, bool) and isinstance(new, int | float) and not isinstance(new, bool) for old, new in pairs
    )


def leaves(value: object, found: object) -> Iterator[tuple[Any, Any]]:
    """Yield each value beside what a type has made of it, through lists and tables."""
    if isinstance(value, Mapping) and isinstance(found, Mapping):
        for key in value.keys() & found.keys():
            yield from leaves(value[key], found[key])
    elif isinstance(value, list | tuple) and isinstance(found, list | tuple):
        yield from chain.from_iterable(map(leaves, value, found))
    else:
        yield value, found


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
