"""Guess: which columns of a table are its text and its label, by their usual names."""

from collections import Counter
from collections.abc import Sequence

from regkit.base.errors import ConfigError, short
from regkit.data.usual import IDS, LABELS, PAIRS, TEXTS


def guess_columns(
    name: str, columns: Sequence[str], text: Sequence[str] | None = None, label: str | None = None, hint: str = ""
) -> tuple[tuple[str, ...], str]:
    """Complete the columns of text and label that the user named.

    A guess is made only where one choice is the usual one. Raises ConfigError, which lists the columns.
    """
    if text is None:
        text = _usual_texts([each for each in columns if each != label])
    if label is None:
        label = _usual_label([each for each in columns if each not in (text or ())])
    rest = [each for each in columns if each and each.lower() not in IDS and each not in (*(text or ()), label)]
    if not text and label and len(rest) == 1:
        text = rest
    if text and not label and len(rest) == 1:
        label = rest[0]
    if text and label:
        return tuple(text), label
    if not any(columns):
        raise ConfigError(f"{name} has no columns, and a task needs those of a text and a label.")
    wanted = [*([] if text else ["--text COLUMN"]), *([] if label else ["--label COLUMN"])]
    listed = ", ".join(short(each) for each in columns[:50] if each)
    more = f"; {hint}" if hint else ""
    raise ConfigError(f"{name}: name the columns by {' and '.join(wanted)}. Available: {listed}{more}.")


def _usual_texts(columns: Sequence[str]) -> list[str]:
    """Find the usual pair, or the usual text; nothing if there is none, or several."""
    known = _usual(columns)
    pairs = [[known[one], known[two]] for one, two in PAIRS if one in known and two in known]
    if pairs:
        return pairs[0] if len(pairs) == 1 else []
    found = [known[each] for each in TEXTS if each in known]
    return found if len(found) == 1 else []


def _usual_label(columns: Sequence[str]) -> str | None:
    known = _usual(columns)
    found = [known[each] for each in LABELS if each in known]
    return found[0] if len(found) == 1 else None


def _usual(columns: Sequence[str]) -> dict[str, str]:
    """Find columns by their names in lower case; those that differ in case alone are none."""
    counts = Counter(each.lower() for each in columns)
    return {each.lower(): each for each in columns if counts[each.lower()] == 1}
