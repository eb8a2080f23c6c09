"""Saved: the examples of a task as a folder of flat arrays, which are mapped into memory.

header.json           what was read off the labels, the remarks, and of each split its form and hashes
SPLIT.tokens          [tokens] int32, as in Examples; so are `segments`, int8, `offsets`, int64, and `labels`
SPLIT.ids             the names of the examples, and in `ids.ends` where each ends; or the numbers of their rows, int64
SPLIT.text0, .text1   the texts themselves where they are asked for, and where each ends
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regkit.base.errors import DataError
from regkit.base.files import read_json, write
from regkit.data.declare import TaskSpec
from regkit.data.examples import Files, Sides, arrays, as_ids, as_labels
from regkit.data.stored.flat import Flat
from regkit.data.stored.held import Texts
from regkit.tasks.objectives import Objective
from regkit.tasks.task import Examples, Split

HEADER = "header.json"
MOST = 1 << 28  # bytes of a header, which lists the rows without a label
READ_OFF = ("kind", "classes", "range")  # what may be read off the labels
PIECE = 1 << 20  # bytes that are hashed at once


@dataclass
class Found:
    """The examples of a task, its declaration with nothing left open, and remarks."""

    spec: TaskSpec
    notes: list[str] = field(default_factory=list)
    splits: dict[Split, Examples] = field(default_factory=dict)


def save_found(folder: Path, found: Found) -> None:
    """Write the header of a folder in which the arrays are."""
    header = {
        "read_off": {name: getattr(found.spec, name) for name in READ_OFF},
        "notes": found.notes,
        "splits": {split: _described(Files(folder, split), examples) for split, examples in found.splits.items()},
    }
    content = json.loads(json.dumps(header))
    write(folder / HEADER, json.dumps(content | {"checksum": _checksum(content)}))


def open_found(folder: Path, spec: TaskSpec) -> Found:
    """Map the arrays of a folder, for a task that is declared so. Raises DataError for a damaged one."""
    try:
        header = read_json(folder / HEADER, MOST)
        if header.pop("checksum") != _checksum(header):
            raise ValueError("the header is not what was written")
        found = Found(type(spec).model_validate(dict(spec) | header["read_off"]), header["notes"])
        objective = found.spec.objective
        for split, form in header["splits"].items():
            found.splits[split] = _examples(Files(folder, split), form, objective)
        return found
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise DataError(f"{folder} is damaged.") from None


def _described(files: Files, examples: Examples) -> dict[str, Any]:
    """Describe the form of a split's arrays, and hash them."""
    form = {
        "sides": examples.sides,
        "truncated": examples.truncated,
        "unlabelled": list(examples.unlabelled),
        "labels": None if examples.labels is None else list(examples.labels.shape[1:]),
        "named": isinstance(examples.ids, Texts),
        "texts": len(examples.texts.sides) if isinstance(examples.texts, Sides) else 0,
    }
    digest, others = (_hash(map(files.map, names)) for names in _names(form))
    return form | {"digest": digest.hex(), "others": others.hex()}


def _examples(files: Files, form: dict[str, Any], objective: Objective) -> Examples:
    """Map the arrays of a split. Raises ValueError if one of them is not what was written."""
    own, others = ({name: files.map(name) for name in names} for names in _names(form))
    digest = bytes.fromhex(form["digest"])
    if _hash(own.values()) != digest or _hash(others.values()).hex() != form["others"]:
        raise ValueError("an array is not what was written")
    examples = Examples(
        *arrays(own["tokens"], own["segments"], own["offsets"]),
        labels=as_labels(own["labels"], objective, form["labels"]) if "labels" in own else None,
        sides=form["sides"],
        ids=as_ids(others["ids"], others.get("ids.ends")),
        truncated=form["truncated"],
        texts=Sides([Texts(others[f"text{n}"], others[f"text{n}.ends"]) for n in range(form["texts"])])
        if form["texts"]
        else (),
        unlabelled=form["unlabelled"],
    )
    return examples.known_by(digest)


def _names(form: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Name the arrays of a split: those that the digest of Examples is of, in its order, and the others."""
    own = ["tokens", "segments", "offsets", *(["labels"] if form["labels"] is not None else [])]
    texts = [name for side in range(form["texts"]) for name in (f"text{side}", f"text{side}.ends")]
    return own, ["ids", *(["ids.ends"] if form["named"] else []), *texts]


def _hash(flats: Iterable[Flat]) -> bytes:
    """Compute the SHA-256 of arrays, one after the other."""
    digest = hashlib.sha256()
    for flat in flats:
        for start in range(0, len(flat), PIECE):
            digest.update(flat.read(start, start + PIECE))
        flat.forget()
    return digest.digest()


def _checksum(header: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
