"""Labels: read kind, classes and range of a task off its label column, where nothing declares them."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from regkit.base.errors import DataError, short
from regkit.tasks.labels import fields

MOST_READ = 1000  # classes that are read off a column: with more, it is more likely another column
NO_LABELS = ("", "-", "?", "-1", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")  # stand where a label is missing
FEW_NUMBERS = 20  # whole numbers of so many values are classes, as stars are; of more, scores
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
DECLARE = "declare them, name another --label, or use --kind regression if they are scores"


def as_number(text: str) -> float | None:
    """Read a decimal number; None for other text."""
    return float(text) if NUMBER.fullmatch(text) else None


def doubtful(classes: Iterable[str]) -> list[str]:
    """Write a remark on each class, read off the labels, that may be no class."""
    remedy = 'skip = ["{}"] in a tasks.toml leaves its rows out'
    return [
        f"class '{name}' may stand for a missing label; {remedy.format(name)}" for name in classes if name in NO_LABELS
    ]


def read_kind(values: Iterable[str]) -> str:
    """Tell the kind of a task by its labels.

    Whole numbers of few values are classes, other numbers are scores.
    """
    found: set[float] = set()  # of scores, which may be as many as there are rows, only so many that they can be told
    for text in values:
        number = as_number(text)
        if number is None:
            return "classification"
        if len(found) <= FEW_NUMBERS:
            found.add(number)
    if found <= {0.0, 1.0}:
        return "binary"
    return "classification" if len(found) <= FEW_NUMBERS and all(map(_is_whole, found)) else "regression"


def read_classes(owner: str, column: str, values: Iterable[str]) -> int | tuple[str, ...]:
    """Read the classes off labels: their number if they are 0, 1, 2 and so on, or their names in order.

    Spellings that differ in case only are one class, under the name that is more frequent. Raises DataError for one class,
    and for so many that they cannot be classes.
    """
    counts = Counter(map(_plain, values))
    named: dict[str, str] = {}
    for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        named.setdefault(name.casefold(), name)
    if len(named) > MOST_READ:
        said = f"{column} has {len(named)} different values, too many to be classes that are read off a column"
        raise DataError(f"{owner}: {said}; {DECLARE}.")
    if len(named) < 2:
        only = short(next(iter(named.values()), ""))
        raise DataError(f"{owner}: every {column} is {only}; nothing can be learned from it.")
    names = sorted(named.values(), key=_in_order)
    return len(names) if names == [str(number) for number in range(len(names))] else tuple(names)


def read_order(owner: str, column: str, values: Iterable[str]) -> int | tuple[str, ...]:
    """Read classes that have an order off labels.

    Raises DataError unless they are numbers, whose order is known.
    """
    found = read_classes(owner, column, values)
    if isinstance(found, tuple) and (word := next((name for name in found if as_number(name) is None), None)):
        said = f"{column} has the class '{short(word)}', which is no number, so nothing tells the order of the classes"
        raise DataError(f"{owner}: {said}; name them in a tasks.toml, the lowest first: classes = [...].")
    return found


def read_members(owner: str, column: str, values: Iterable[str]) -> int | tuple[str, ...]:
    """Read the classes off lists of them: all that any list has. Raises DataError for lists of 0 and 1."""
    members = (part for text in values for part in fields(text, bool) if part)
    found = read_classes(owner, column, members)
    if found == 2:
        said = f"{column} has 0 and 1 only, so nothing names the classes"
        raise DataError(f"{owner}: {said}; name them in a tasks.toml: classes = [...].")
    return found


def read_range(owner: str, column: str, values: Iterable[str]) -> tuple[float, float]:
    """Read the range of scores off labels.

    Raises DataError for a label that is no number, and for scores all alike.
    """
    low, high = math.inf, -math.inf
    for text in values:
        number = as_number(text)
        if number is None or not math.isfinite(number):
            raise DataError(f"{owner}: {column} is '{short(text)}'; a regression needs numbers.")
        low, high = min(low, number), max(high, number)
    if low == high:
        raise DataError(f"{owner}: every {column} is {low:g}; nothing can be learned from it.")
    return low, high


def stated(objective: Any) -> dict[str, Any]:
    """Give what was read off a column as plain values, which a task is declared by again."""
    found: dict[str, Any] = {"kind": objective.kind}
    if names := list(getattr(objective, "names", ())):
        found["classes"] = names
    elif objective.kind != "binary" and hasattr(objective, "classes"):
        found["classes"] = objective.classes
    if hasattr(objective, "low"):
        found["range"] = [objective.low, objective.high]
    return found


def _plain(text: str) -> str:
    """Write a whole number without a fraction: 4.0 is 4."""
    number = as_number(text)
    return str(int(number)) if number is not None and _is_whole(number) else text


def _is_whole(number: float) -> bool:
    return number.is_integer() and abs(number) < 1 << 53


def _in_order(name: str) -> tuple[bool, float, str]:
    number = as_number(name)
    return number is None, number or 0.0, name.casefold()
