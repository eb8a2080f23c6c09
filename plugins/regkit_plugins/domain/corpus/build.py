"""Build: tokenize a corpus once into a cache, keyed by content and tokenizer, complete or absent.

A cache is built in a temporary folder, under a lock that is released when the process ends, and renamed when every byte of it
is on the disk. So a folder with a cache's name is complete. A second builder waits and uses the first one's cache. The folder
of a killed builder has a free lock, and the next builder removes it.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tokenizers
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from regkit import DataError, Tokenizer
from regkit_plugins.domain.corpus.cache import (
    DOCUMENTS,
    FORMAT,
    HEADER,
    PASSAGES,
    TOKENS,
    TokenCache,
    header_text,
    token_type,
)
from regkit_plugins.domain.corpus.documents import Corpus, Passages
from regkit_plugins.domain.corpus.sources import readable

BATCH = 1 << 20  # characters tokenized in one call: enough for every core, and some 100 MB meanwhile
OVERHEAD = 64  # memory that each passage costs, in characters
UNFINISHED = ".unfinished"

Batch = list[tuple[bool, str]]


def cache_root() -> Path:
    """Return `$REGKIT_CACHE`, or `regkit` in the cache folder: `$XDG_CACHE_HOME` or ~/.cache."""
    if chosen := os.environ.get("REGKIT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regkit"


def load_corpus(
    corpus: Corpus, tokenizer: Tokenizer, *, root: Path | None = None, console: Console | None = None
) -> TokenCache:
    """Open the corpus's cache of token ids below `root`; build it first if it does not exist.

    The console, stderr by default, shows progress if it is a terminal, and says when it waits or rebuilds. Raises DataError
    if the corpus cannot be read, changes meanwhile, or has no words, or if the cache cannot be written.
    """
    files = corpus.files()
    states = {file.path: _state(file.path) for file in files}
    revision = corpus.hub.revision() if corpus.hub and not files else None
    passages = Passages(corpus, files, revision)
    place = (root or cache_root()) / "corpus" / _key(passages, tokenizer)
    console = console or Console(stderr=True)
    if found := _existing(place, None):
        return found
    with _writable(place.parent), _locked(place, console):
        if found := _existing(place, console):
            return found
        _clear(place)
        with _finished(place) as folder:
            _write(folder, passages, tokenizer, console)
            _check_unchanged(states)
    return TokenCache.open(place)


def _state(path: Path) -> tuple[int, ...]:
    """Return numbers that change when the file changes."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _check_unchanged(states: Mapping[Path, tuple[int, ...]]) -> None:
    """Raise DataError if a file has changed since its key was computed."""
    for path, state in states.items():
        if not path.exists() or _state(path) != state:
            raise DataError(f"{path} was changed while it was read; the corpus has to be read again.")


def _key(passages: Passages, tokenizer: Tokenizer) -> str:
    """Hash everything that the arrays depend on; note: this reads every file, at the speed of SHA-256."""
    corpus = passages.corpus
    made_by = [FORMAT, tokenizers.__version__, tokenizer.backend.to_str(), tokenizer.backend.encode_special_tokens]
    options = [passages.layout, corpus.field, corpus.errors]
    hub = [str(corpus.hub), passages.revision]
    # The library that reads a Hub set finds its splits by the names of its files; elsewhere only their order counts.
    files = [[file.kind, str(file.path) if corpus.hub else "", _digest(file.path)] for file in passages.files]
    return hashlib.sha256(json.dumps([made_by, options, hub, files]).encode()).hexdigest()[:32]


def _digest(path: Path) -> str:
    with readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _existing(place: Path, console: Console | None) -> TokenCache | None:
    """Open the cache if it exists and is complete. Says on the console if it is damaged."""
    if not place.exists():
        return None
    try:
        return TokenCache.open(place)
    except DataError as error:
        if console:
            console.print(f"The corpus's cache is built again: {error}", soft_wrap=True, highlight=False, markup=False)
        return None


@contextmanager
def _writable(root: Path) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(f"the corpus's cache cannot be written to {root}: {why}. Nothing was kept.") from None


@contextmanager
def _locked(place: Path, console: Console) -> Iterator[None]:
    lock = _lock(place.name, place.parent)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print("Waiting for another run, which is building this corpus's cache.", soft_wrap=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock(key: str, root: Path) -> FileLock:
    return FileLock(root / f"{key}.lock")


def _clear(place: Path) -> None:
    """Remove a damaged cache, and the unfinished folders of builders that have ended."""
    if place.exists():
        shutil.rmtree(place)
    for left in place.parent.glob(f"*{UNFINISHED}"):
        key = left.name.partition(".")[0]
        with suppress(Timeout), nullcontext() if key == place.name else _lock(key, place.parent).acquire(timeout=0):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _finished(place: Path) -> Iterator[Path]:
    """Make a new folder that becomes `place` if the block succeeds, and is removed otherwise."""
    folder = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=UNFINISHED, dir=place.parent))
    try:
        yield folder
        _sync(folder)
        folder.rename(place)
        _sync(place.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # it no longer exists after the rename


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "nt":
        return  # a folder cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(folder: Path, passages: Passages, tokenizer: Tokenizer, console: Console) -> None:
    total = sum(file.path.stat().st_size for file in passages.files) or None
    with _Writer(folder, token_type(len(tokenizer))) as writer, _progress(console) as progress:
        bar = progress.add_task("tokenizing the corpus", total=total, tokens=0)
        for begins, lengths, tokens in _tokenized(passages, tokenizer):
            writer.add(begins, lengths, tokens)
            progress.update(bar, completed=passages.reading.position(), tokens=writer.tokens)
        if not writer.tokens:
            raise DataError(f"{passages.corpus.source} has no words.")
        writer.finish(passages.notes())


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[tokens]:,} tokens"),
    )
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


def _tokenized(passages: Iterable[tuple[bool, str]], tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, ...]]:
    """Tokenize in batches. Yields document begins and lengths, `[passages]` each, and ids, `[tokens]`.

    The next batch is read while one is tokenized.
    """

    def encode(batch: Batch) -> tuple[np.ndarray, ...]:
        begins, texts = zip(*batch, strict=True)
        ids = tokenizer.encode(texts)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        flat = np.fromiter(chain.from_iterable(ids), token_type(len(tokenizer)), int(lengths.sum()))
        return np.array(begins), lengths, flat

    with ThreadPoolExecutor(1) as pool:
        running: deque[Future[tuple[np.ndarray, ...]]] = deque()
        for batch in _batches(passages):
            running.append(pool.submit(encode, batch))
            if len(running) > 1:
                yield running.popleft().result()
        if running:
            yield running.popleft().result()


def _batches(passages: Iterable[tuple[bool, str]]) -> Iterator[Batch]:
    batch: Batch = []
    size = 0
    for begins, text in passages:
        batch.append((begins, text))
        size += len(text) + OVERHEAD
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Writer:
    """Appends to the arrays of a folder; skips passages and documents without a token."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.tokens = self.passages = self.documents = self.wordless = 0
        self.seen = self.last = 0  # documents begun so far, and the one that holds the last passage kept
        self.files: dict[str, BinaryIO] = {}

    def __enter__(self) -> "_Writer":
        self.files = {name: (self.folder / name).open("wb") for name in (TOKENS, PASSAGES, DOCUMENTS)}
        self._append(PASSAGES, np.zeros(1, np.int64))
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self.files.values():
            with suppress(OSError):  # a full disk, which `add` or `finish` has raised already
                file.close()

    def add(self, begins: np.ndarray, lengths: np.ndarray, tokens: np.ndarray) -> None:
        """Append consecutive passages."""
        kept = lengths > 0
        document = (self.seen + np.cumsum(begins))[kept]
        new = np.diff(document, prepend=self.last) > 0
        self._append(TOKENS, tokens)
        self._append(PASSAGES, self.tokens + np.cumsum(lengths[kept]))
        self._append(DOCUMENTS, self.passages + np.flatnonzero(new))
        self.seen += int(begins.sum())
        self.last = int(document[-1]) if len(document) else self.last
        self.tokens, self.passages = self.tokens + len(tokens), self.passages + len(document)
        self.documents, self.wordless = self.documents + int(new.sum()), self.wordless + int((~kept).sum())

    def finish(self, notes: Sequence[str]) -> None:
        """Write the header and wait until everything is on the disk."""
        self._append(DOCUMENTS, np.array([self.passages]))
        if self.wordless:
            notes = [*notes, f"{self.wordless} passages without a word were left out"]
        counts = {"tokens": self.tokens, "passages": self.passages, "documents": self.documents}
        self.files[HEADER] = (self.folder / HEADER).open("wb")
        self.files[HEADER].write(header_text({"type": self.kind, **counts, "notes": notes}).encode())
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())

    def _append(self, name: str, values: np.ndarray) -> None:
        self.files[name].write(values.astype(self.kind if name == TOKENS else np.int64, copy=False).data)
