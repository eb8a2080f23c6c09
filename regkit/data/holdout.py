"""Holdout: choose the rows of a training file that become the dev split."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence


def hold_out(share: float, classes: Sequence[str], groups: Sequence[Hashable]) -> list[int]:
    """Choose rows, so that each class has its share of them and no group is divided.

    Returns the rows' numbers, in order. `classes` and `groups` have an entry a row. The choice depends on the groups
    alone, by their hash, and neither on a seed nor on the order of the rows. Of no class all rows are chosen. At
    least one row is, but where no group can be.
    """
    left = Counter(classes)
    wanted = _wanted(share, left)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    chosen: list[int] = []
    for enough in (True, False):  # a group that is larger than all that is wanted is chosen only if nothing else can be
        for group in sorted(members, key=_hash):
            counts = Counter(classes[row] for row in members[group])
            useful = sum(min(count, wanted[each]) for each, count in counts.items())
            fits = 2 * useful >= len(members[group]) if enough else not chosen
            if useful and fits and all(left[each] > count for each, count in counts.items()):
                chosen += members[group]
                wanted -= counts
                left -= counts
    return sorted(chosen)


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


def _hash(group: Hashable) -> bytes:
    return hashlib.blake2b(repr(group).encode("utf8", "backslashreplace"), digest_size=16).digest()
