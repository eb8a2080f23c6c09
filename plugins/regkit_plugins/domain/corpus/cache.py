"""Cache: keep the token ids of a corpus in a folder of flat arrays that are mapped into memory.

header.json       types, lengths and hashes of the arrays, and a checksum of this header
tokens.bin        [tokens] uint16, or int32 where the vocabulary needs it
passages.bin      [passages + 1] int64: where each passage begins in the tokens, and where the last ends
documents.bin     [documents + 1] int64: where each document begins in the passages, and where the last ends
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from regkit import ConfigError, DataError, derive, digest_of

FORMAT = 2
HEADER, TOKENS, PASSAGES, DOCUMENTS = "header.json", "tokens.bin", "passages.bin", "documents.bin"


@dataclass(frozen=True, eq=False)
class TokenCache:
    """Passages of token ids without special tokens, by document.

    Passage i is `tokens[starts[i]:ends[i]]`, and never empty. `starts` ascends. A part of a cache shares its tokens; its
    `starts` and `ends` take 16 bytes of memory for each passage. A cache with a folder is pickled as the folder's name.
    """

    tokens: np.ndarray  # [tokens], integers; those of the whole cache
    starts: np.ndarray  # [passages] int64
    ends: np.ndarray  # [passages] int64
    document_offsets: np.ndarray  # [documents + 1] int64: document d has the passages from [d] to [d + 1]
    notes: Sequence[str] = ()  # remarks from reading the corpus, a sentence each
    folder: Path | None = field(default=None)  # folder of the arrays

    @classmethod
    def open(cls, folder: Path) -> "TokenCache":
        """Map a folder's arrays. Raises DataError if it is incomplete or damaged."""
        header = read_header(folder)
        for name, digest in header["hashes"].items():
            _check(folder / name, digest)
        kinds = {PASSAGES: "int64", DOCUMENTS: "int64", TOKENS: header["type"]}
        passages, documents, tokens = (np.memmap(folder / name, kind, "r") for name, kind in kinds.items())
        return cls(tokens, passages[:-1], passages[1:], documents, tuple(header["notes"]), folder)

    @classmethod
    def of(cls, documents: Iterable[Iterable[Sequence[int] | np.ndarray]]) -> "TokenCache":
        """Make a cache in memory from each document's passages of token ids; empty ones are skipped."""
        kept = [[passage for passage in document if len(passage)] for document in documents]
        passages = [passage for document in kept for passage in document]
        offsets = np.cumsum([0, *map(len, passages)])
        counts = [len(document) for document in kept if document]
        flat = np.fromiter((token for passage in passages for token in passage), np.int64, int(offsets[-1]))
        tokens = flat.astype(token_type(int(flat.max(initial=0)) + 1))
        return cls(tokens, offsets[:-1], offsets[1:], np.cumsum([0, *counts]))

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.document_offsets) - 1

    @property
    def passages(self) -> int:
        """The number of passages."""
        return len(self.starts)

    @property
    def size(self) -> int:
        """The number of tokens."""
        return int(self.lengths().sum())

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each passage: `[passages]`, int64."""
        return np.asarray(self.ends - self.starts)

    def passage(self, number: int) -> np.ndarray:
        """Return the ids of a passage, as a view of the tokens."""
        return self.tokens[self.starts[number] : self.ends[number]]

    def document(self, number: int) -> range:
        """Return the numbers of a document's passages."""
        return range(int(self.document_offsets[number]), int(self.document_offsets[number + 1]))

    def held_out(self, size: float, seed: int) -> tuple["TokenCache", "TokenCache"]:
        """Split off some documents: a share below 1, or a number from 1 on. Returns the others first.

        A document is drawn by a hash of its number and the seed, so the same seed gives the same split. Raises ConfigError if
        `size` is invalid, and DataError if a part would be empty.
        """
        if not (0 < size < 1 or (size >= 1 and size % 1 == 0)):
            raise ConfigError(f"held-out size is {size}; a share between 0 and 1 or a whole number is needed.")
        count = max(1, round(size * len(self))) if size < 1 else int(size)
        if count >= len(self):
            has = "one document" if len(self) == 1 else f"{len(self)} documents"
            remedy = "hold out fewer, or say by the option documents what forms one, such as lines"
            raise DataError(f"the corpus has {has}; {count} to hold out leave none to train on; {remedy}.")
        chosen = np.zeros(len(self), bool)
        chosen[np.argsort(_hashes(len(self), derive(seed, "held out")), kind="stable")[:count]] = True
        held = np.repeat(chosen, np.diff(self.document_offsets))
        return self._only(~held), self._only(held)

    def without(self, passages: np.ndarray) -> "TokenCache":
        """Drop these passages, and documents without others. Raises DataError if nothing is left."""
        kept = np.ones(self.passages, bool)
        kept[passages] = False
        if not kept.any():
            raise DataError("no passage of the corpus is left.")
        return self._only(kept)

    def digest(self) -> bytes:
        """Hash the passages by SHA-256. A cache in a folder is hashed by its name, a key of its content."""
        digest = hashlib.sha256(self.folder.name.encode() if self.folder else self.tokens.tobytes())
        for values in (self.starts, self.ends, self.document_offsets):
            digest.update(np.ascontiguousarray(values).data)
        return digest.digest()

    def _only(self, kept: np.ndarray) -> "TokenCache":
        """Keep the passages of a mask: `[passages]`, bool."""
        before = np.concatenate([[0], np.cumsum(kept)])  # number of passages kept before each passage
        offsets = np.unique(before[self.document_offsets])
        return replace(self, starts=self.starts[kept], ends=self.ends[kept], document_offsets=offsets)

    def __reduce__(self) -> tuple[Any, ...]:
        part = (np.asarray(self.starts), np.asarray(self.ends), np.asarray(self.document_offsets))
        if self.folder is None:
            return TokenCache, (self.tokens, *part, self.notes)
        return _reopen, (self.folder, None if isinstance(self.starts, np.memmap) else part)


def _reopen(folder: Path, part: tuple[np.ndarray, np.ndarray, np.ndarray] | None) -> TokenCache:
    cache = TokenCache.open(folder)
    return replace(cache, starts=part[0], ends=part[1], document_offsets=part[2]) if part else cache


def token_type(vocabulary: int) -> str:
    """Return the narrowest type that holds this many ids and that torch can compute with."""
    return "uint16" if vocabulary <= 1 << 16 else "int32"


def read_header(folder: Path) -> dict[str, Any]:
    """Read the header. Raises DataError if it is missing, damaged, or of another version."""
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf8"))
        checksum = header.pop("checksum")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise DataError(f"{folder / HEADER} cannot be read.") from None
    if checksum != _checksum(header) or header["format"] != FORMAT:
        raise DataError(f"{folder / HEADER} is damaged.")
    return dict(header)


def header_text(header: dict[str, Any]) -> str:
    """Format the header as it is written, with its checksum."""
    header = {"format": FORMAT, **header}
    return json.dumps({**header, "checksum": _checksum(header)}, indent=2, ensure_ascii=False) + "\n"


def _checksum(header: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _check(path: Path, digest: str) -> None:
    """Raise DataError if a file is not what was written: ids of another vocabulary would train without a word."""
    try:
        whole = digest_of(path) == digest
    except OSError:
        raise DataError(f"{path} cannot be read.") from None
    if not whole:
        raise DataError(f"{path} is damaged.")


def _hashes(count: int, seed: int) -> np.ndarray:
    """Hash each number below `count` with the seed, as SplitMix64 does (Steele et al., 2014)."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
