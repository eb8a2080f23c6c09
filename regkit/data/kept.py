"""Kept: find a task's examples as they were once read and tokenized, so that no run does it again.

They are in a folder of the cache, `tables`, under a key of all that they depend on: the content of the files, what is
declared of the task, the tokenizer, and the code that reads and tokenizes. An array that is found is checked by its hash.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import tokenizers

from regkit.base.errors import DataError
from regkit.base.files import check_plain, digest_of
from regkit.base.kept import KEY, UnkeptError, build_once, cache_root
from regkit.data.declare import SPLITS, TaskSpec
from regkit.data.examples import Way
from regkit.data.saved import Found, open_found, save_found
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.names import Split

TABLES = "tables"  # the folder in the cache
BEGIN = 4096  # bytes
FREE = {"batch_size", "optional", "pooling"}  # what is declared of a task, and changes none of its examples
CODE = (
    "base/**/*.py",
    "data/**/*.py",
    "model/tokenizer*.py",
    "tasks/**/*.py",
)  # what makes the examples, below `regkit`


def find_kept(
    spec: TaskSpec, needed: Sequence[Split], wanted: Sequence[Split], way: Way, read: Callable[[Path | None], Found]
) -> Found:
    """Find the examples of these splits in the cache, or `read` them into a folder of it.

    Where the cache cannot be written they are read into memory, which a note says. So are those that no key tells apart:
    what a data set of the Hub holds is not known before it is read, nor what a tokenizer of another class does. Raises
    DataError.
    """
    files = {split: _files(spec, split) for split in needed}
    every = [path for each in files.values() for path in each or ()]
    if not every or None in files.values() or type(way.tokenizer) is not Tokenizer:
        return read(None)
    named = {split: each for split, each in files.items() if each}
    try:
        return build_once(
            cache_root() / TABLES,
            lambda: _key(spec, named, wanted, way),
            lambda folder: open_found(folder, spec),
            lambda folder: save_found(folder, read(folder)),
            name=f"the cache of {every[0]}",
            files=every,
            say=lambda said: print(said, file=sys.stderr, flush=True),
            sync=False,
        )
    except UnkeptError as error:
        found = read(None)
        return replace(found, notes=[*found.notes, str(error)])


def _files(spec: TaskSpec, split: Split) -> list[Path] | None:
    """List the files of a split; None if it has none, or one cannot be read, or begins with nothing."""
    try:
        found = spec.files(split)
        for path in found or ():
            check_plain(path)
            with path.open("rb") as file:
                if not file.read(BEGIN).strip(b"\0"):  # a hole in a file can be larger than any disk
                    return None
    except (DataError, OSError, ValueError):
        return None  # whoever reads it will say what is wrong
    return found


def _key(spec: TaskSpec, files: Mapping[Split, Sequence[Path]], wanted: Sequence[Split], way: Way) -> str:
    """Hash all that the examples depend on; note: this reads every file, at some 500 MB a second."""
    backend = way.tokenizer.backend
    made_by = [_code(), sys.version, tokenizers.__version__]
    words = [backend.to_str(), backend.encode_special_tokens, way.tokenizer.settings]
    paths = {split for split in SPLITS if not isinstance(getattr(spec, split), float)}
    declared = [type(spec).__name__, spec.model_dump(mode="json", exclude=FREE | paths)]
    content = [[split, str(path.resolve()), digest_of(path)] for split, places in files.items() for path in places]
    asked = [sorted(wanted), way.longest, way.keep_texts]
    return hashlib.sha256(json.dumps([made_by, words, declared, content, asked]).encode()).hexdigest()[:KEY]


@cache
def _code() -> str:
    """Hash the code that reads and tokenizes, so that nobody has to remember that it has changed."""
    root = Path(__file__).parents[1]
    paths = sorted(path for pattern in CODE for path in root.glob(pattern))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()
