"""Labels: read kind, classes and range of a task off its label column, where nothing declares them."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any

from regkit.base.errors import DataError, short
from regkit.tasks.labels import as_number, fields, is_list

MOST_READ = 1000  # classes that are read off a column: with more, it is more likely another column
NO_LABELS = {  # stand where a label is missing
    *("", "-", "?", "-1", "NA", "N/A", "n/a", "#N/A", "<NA>"),
    *("NaN", "nan", "NULL", "null", "None", "NONE"),
}
FEW_NUMBERS = 20  # whole numbers of so many values are classes, as stars are; of more, scores
NEARLY_ALL = 0.9  # of the labels, if they are scores, and one is no number
WITHOUT_FRACTION = re.compile(r"([+-]?[0-9]+)\.0*")
CODE = re.compile(r"[+-]?0[0-9]+")  # of a place or a product: no number begins so
COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")  # a number as much of Europe writes it, or two of a list
LARGEST = 1e9  # of a score: a float64 of this size has six decimals
DECLARE = "declare them, name another --label, or use --kind regression if they are scores"


def meaning(label: str) -> str:
    """Say what a label means: 4.0 is 4, and case does not count."""
    return _plain(label).casefold()


def is_missing(label: str) -> bool:
    """Tell whether a label may stand for one that is missing."""
    return _plain(label) in NO_LABELS  # and not by meaning: `none` is a class


def doubtful(classes: Iterable[str]) -> list[str]:
    """Write a remark on each class, read off the labels, that may be no class."""
    remedy = 'skip = ["{}"] in a tasks.toml leaves its rows out'
    return [
        f"class '{name}' may stand for a missing label; {remedy.format(name)}" for name in classes if is_missing(name)
    ]


def of_lists(classes: Sequence[str]) -> list[str]:
    """Write a remark where a class is a list of others: a row may have several labels."""
    several = (name for name in classes if len(fields(name, {*classes}.__contains__)) > 1)
    return [f"class '{name}' is a list of other classes; --kind multilabel reads lists" for name in islice(several, 1)]


def read_kind(values: Iterable[str]) -> str:
    """Tell the kind of a task by its labels.

    Whole numbers of few values are classes, and so are codes such as 02134; other numbers are scores.
    """
    found: set[float] = set()  # of scores, which may be as many as there are rows, only so many that they can be told
    for text in values:
        number = as_number(text)
        if number is None or CODE.fullmatch(text):
            return "classification"
        if len(found) <= FEW_NUMBERS:
            found.add(number)
    if found <= {0.0, 1.0}:
        return "binary"
    return "classification" if _are_classes(found) else "regression"


def misfit(labels: Iterable[str]) -> tuple[int, str] | None:
    """Find a label that shows that these are no classes: its place, and what it is.

    It is a list or an object, or no number where nearly all labels are scores, or a number with a decimal comma.
    """
    scores: set[float] = set()
    numbers = commas = words = 0
    odd = (0, "")
    for place, text in enumerate(labels):
        if is_list(text):
            return place, f"is {short(text)}; a list needs the kind multilabel or soft, as by --kind"
        if text[:1] == "{" and text[-1:] == "}":
            return place, f"is {short(text)}; an object is no label"
        if (number := as_number(text)) is not None:
            numbers += 1
            if len(scores) <= FEW_NUMBERS:
                scores.add(number)
        elif text:
            commas, words = commas + bool(COMMA.fullmatch(text)), words + 1
            odd = odd if odd[1] else (place, text)
    place, text = odd
    if words and words == commas:
        return place, f"is '{text}'; a score has a decimal point, and classes need --kind classification or multilabel"
    if words and numbers > NEARLY_ALL * (numbers + words) and not _are_classes(scores):
        remedy = f"skip = ['{text}'] in a tasks.toml leaves such rows out" if is_missing(text) else "correct it"
        return place, f"is '{short(text)}', and nearly all others are numbers; {remedy}, or say --kind classification"
    return None


def read_classes(owner: str, column: str, values: Iterable[str]) -> int | tuple[str, ...]:
    """Read the classes off labels: their number if they are 0, 1, 2 and so on, or their names in order.

    Spellings that mean the same are one class, under the name that is more frequent. Raises DataError for one class, and for
    so many that they cannot be classes.
    """
    counts = Counter(map(_plain, values))
    named: dict[str, str] = {}
    for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        named.setdefault(meaning(name), name)
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


def read_members(owner: str, column: str, members: Iterable[str]) -> int | tuple[str, ...]:
    """Read the classes off the members of lists. Raises DataError for lists of 0 and 1."""
    found = read_classes(owner, column, filter(None, members))
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
    if max(-low, high) > LARGEST:
        said = f"{column} is from {low:g} to {high:g}; scores up to {LARGEST:g} are learned"
        raise DataError(f"{owner}: {said}: divide them, or use --kind classification if they are classes.")
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
    found = WITHOUT_FRACTION.fullmatch(text)
    return found[1] if found else text


def _are_classes(numbers: Collection[float]) -> bool:
    return len(numbers) <= FEW_NUMBERS and all(number.is_integer() for number in numbers)


def _in_order(name: str) -> tuple[bool, float, str]:
    number = as_number(name)
    return number is None, number or 0.0, name.casefold()
