"""Labels: read classes, lists of classes and numbers as tables write them.

Every function raises ValueError, which says what is needed instead: the words before "is needed".
"""

import ast
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

from regkit.base.errors import short

YES, NO = ("1", "yes", "true", "y", "t"), ("0", "no", "false", "n", "f")
SEPARATORS = "|;,"  # of classes in one field, tried in this order
LONGEST_LIST = 1 << 16  # characters of a list as Python writes it, which is parsed with its nesting
SHOWN = 20  # classes in a message


def as_number(text: str) -> float | None:
    """Read a decimal number such as -1, 2.5 or 1e-05; None for other text, such as 1_0 or nan."""
    return float(text) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) else None


def whole(text: str, highest: int) -> int:
    """Read a whole number from 0 to `highest`, which may be written as 4.0."""
    value = as_number(text.strip())
    if value is None or not (value.is_integer() and 0 <= value <= highest):
        raise ValueError(f"a whole number from 0 to {highest}" if highest > 1 else "0 or 1")
    return int(value)


def yes_or_no(text: str) -> int:
    """Read 1 or 0, yes or no, true or false, or their first letters, in any case."""
    word = plain(text)
    if word in (1.0, *YES):
        return 1
    if word in (0.0, *NO):
        return 0
    raise ValueError("0 or 1, or yes or no,")


def class_of(text: str, classes: int, names: tuple[str, ...] = ()) -> int:
    """Read a class by its name, or by its number where classes have none."""
    if not names:
        return whole(text, classes - 1)
    found = find(text, names)
    if found is None:
        raise ValueError(f"one of {listed(names)}")
    return found


def class_name(label: float, names: Sequence[str] = ()) -> str:
    """Write a class as a table does."""
    return names[int(label)] if names else str(int(label))


def find(text: str, names: tuple[str, ...]) -> int | None:
    """Find a name: as it stands, or else by what it means, if only one means that."""
    exact, meant = _places(names)
    return exact.get(text, meant.get(plain(text)))


@lru_cache(maxsize=64)
def _places(names: tuple[str, ...]) -> tuple[dict[str, int], dict[float | str, int]]:
    """Map each name to its place, and what each means, if it is alone in that."""
    meanings = [plain(name) for name in names]
    counts = Counter(meanings)
    alone = {meaning: place for place, meaning in enumerate(meanings) if counts[meaning] == 1}
    return {name: place for place, name in enumerate(names)}, alone


def plain(text: str) -> float | str:
    """Say what a name means without case and surrounding blanks: 4.0 is the number 4."""
    text = text.strip()
    value = as_number(text)
    return text.casefold() if value is None else value


def listed(names: Sequence[str]) -> str:
    """List classes for a message."""
    return short(", ".join(islice(names, SHOWN)))


def fields(text: str, known: Callable[[str], bool]) -> list[str]:
    """Read the fields of a list: JSON, or fields parted by |, ; or a comma; no text is no field.

    A separator counts where all that it parts is `known`, so a name may contain one. Raises ValueError for a list of others.
    """
    text = text.strip()
    if not text:
        return []
    if text[0] == "[" and (found := _listing(text)) is not None:
        if not all(isinstance(each, str | int | float) for each in found):
            raise ValueError("a list of names or numbers")
        return [str(int(each)) if isinstance(each, bool) else str(each) for each in found]
    parted = ([part.strip() for part in text.split(separator)] for separator in SEPARATORS if separator in text)
    return next((parts for parts in parted if all(map(known, parts))), [text])


def is_list(text: str) -> bool:
    """Tell whether a label is a list as JSON or Python writes it."""
    return text[:1] == "[" and _listing(text) is not None


def _listing(text: str) -> list[Any] | None:
    """Read a list as JSON or Python writes it; None where it is none."""
    for read in (json.loads, _literal):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list):
            return found
    return None


def _literal(text: str) -> object:
    """Read a literal of Python, without its warnings of odd backslashes."""
    if len(text) > LONGEST_LIST:
        raise ValueError("it is too long")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)


def write_list(names: Sequence[str]) -> str:
    """Write a list so that `fields` reads it: parted by |, or as JSON where a name contains a separator."""
    simple = all(name.strip() and name[0] != "[" and not set(name) & set(SEPARATORS) for name in names)
    return "|".join(names) if simple else json.dumps(list(names), ensure_ascii=False)
