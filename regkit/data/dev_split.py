"""Dev split: hold a part of the training rows out, where a task has no other dev split."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator

from regkit.base.errors import DataError
from regkit.data.holdout import hold_out
from regkit.data.prepared import Prepared
from regkit.tasks.labels import plain

STRATA = {  # by kind: what has the same share in train and in a dev split that is held out
    "classification": "class",
    "binary": "class",
    "ordinal": "class",
    "multilabel": "set of labels",
}


def make_dev(found: Prepared) -> None:
    """Hold rows of the training split out as the dev split. Raises DataError where none can be."""
    spec, train = found.spec, found.tables["train"]
    total = len(train.rows)
    groups: Iterable[Hashable] = found.texts("train")
    if spec.group:
        groups = (row.get(spec.group, "") for row in train.rows.columns([spec.group]))
    together = f"rows of one {spec.group or 'text'}"
    chosen = hold_out(spec.held_out, _strata(found), groups)
    if not chosen:
        kept = "a row of each class stays in train" if spec.kind in STRATA else "a row stays in train"
        said = f"no dev split can be made of it: {kept}, and {together} stay together"
        if not spec.dev_is_default:
            raise DataError(f"{train.name}: {said}; name a file for dev, or set dev = 0.")
        found.notes.append(f"dev: none; {said}")
        return
    held = bytearray(total)
    for row in chosen:
        held[row] = 1
    found.tables["dev"] = train.only(chosen)
    found.tables["train"] = train.only(row for row in range(total) if not held[row])
    even = f"the same share of each {STRATA[spec.kind]}, " if spec.kind in STRATA else ""
    found.notes.append(
        f"dev: {len(chosen)} of the {total} training rows are held out, {even}{together} together; equal for every seed"
    )


def _strata(found: Prepared) -> Iterator[str]:
    """Tell the stratum of each training row: its class, or one for all where labels are no classes.

    Sets of labels that one row alone has are a stratum together: none of them could be divided.
    """
    if found.spec.kind not in STRATA:
        return ("" for _ in range(len(found.tables["train"].rows)))
    if found.spec.kind != "multilabel":
        return _classes(found)
    counts = Counter(_classes(found))
    return (label if counts[label] > 1 else "" for label in _classes(found))


def _classes(found: Prepared) -> Iterator[str]:
    return (str(plain(label)) for label in found.labels("train"))
