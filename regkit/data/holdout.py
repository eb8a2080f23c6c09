"""Holdout: choose the rows of a training file that become the dev split."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from regkit.data.repeats import Hashed


def hold_out(share: float, classes: Iterable[str], groups: Iterable[Hashable]) -> list[int]:
    """Choose rows, so that each class has its share of them and no group is divided.

    Returns the rows' numbers, in order. `classes` and `groups` have an entry a row. The choice depends on the groups
    alone, by their hash, and neither on a seed nor on the order of the rows. Of no class all rows are chosen. At
    least one row is, but where no group can be.
    """
    left, hashed = _read(classes, groups)
    names, wanted = list(left), _wanted(share, left)
    chosen: list[int] = []
    for enough in (True, False):  # a group that is larger than all that is wanted is chosen only if nothing else can be
        for members in _groups(hashed):
            if chosen and not (enough and wanted):
                break
            counts = Counter(names[number] for number, _ in members)
            useful = sum(min(count, wanted[each]) for each, count in counts.items())
            fits = 2 * useful >= len(members) if enough else not chosen
            if useful and fits and all(left[each] > count for each, count in counts.items()):
                chosen += [row for _, row in members]
                wanted -= counts
                left -= counts
    return sorted(chosen)


def _read(classes: Iterable[str], groups: Iterable[Hashable]) -> tuple[Counter[str], Hashed]:
    """Count the rows of each class, and hash each row's group, with its class's place and its row."""
    counts: Counter[str] = Counter()
    places: dict[str, int] = {}

    def members() -> Iterator[tuple[Hashable, int, int]]:
        for row, (name, group) in enumerate(zip(classes, groups, strict=True)):
            counts[name] += 1
            yield group, places.setdefault(name, len(places)), row

    hashed = Hashed(members())
    return counts, hashed


def _groups(hashed: Hashed) -> Iterator[list[tuple[int, int]]]:
    """Yield the class and the row of each member of a group, groups in the order of their hashes."""
    for part in hashed:
        for _, members in groupby(sorted(part), key=itemgetter(0)):
            yield [(number, row) for _, number, row in members]


def _wanted(share: float, counts: Counter[str]) -> Counter[str]:
    """Compute how many rows of each class are to be chosen: their shares of a total of at least 1.

    Each share is rounded down, and those with the largest remainders get one more. `tasks.sampling` has the same, but
    needs torch, for which looking into a file should not wait.
    """
    able = {each: count for each, count in sorted(counts.items()) if count > 1}
    total = max(1, round(share * counts.total()))
    exact = {each: count * total / sum(able.values()) for each, count in able.items()}
    parts = Counter({each: math.floor(part) for each, part in exact.items()})
    for each in sorted(able, key=lambda each: parts[each] - exact[each])[: total - parts.total()]:
        parts[each] += 1
    return Counter({each: min(part, able[each] - 1) for each, part in parts.items()})
