"""Build: tokenize a corpus once into a cache, keyed by content and tokenizer, complete or absent."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tokenizers
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from regkit import DataError, Tokenizer, build_once, cache_root, digest_of
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
SHOWN = 0.01  # share of unknown words that is mentioned
OVERHEAD = 64  # memory that each passage costs, in characters

Batch = list[tuple[bool, str]]


def load_corpus(
    corpus: Corpus, tokenizer: Tokenizer, *, root: Path | None = None, console: Console | None = None
) -> TokenCache:
    """Open the corpus's cache of token ids below `root`; build it first if it does not exist.

    The console, stderr by default, shows progress if it is a terminal, and says when it waits or rebuilds. Raises DataError
    if the corpus cannot be read, changes meanwhile, or has no words, or if the cache cannot be written.
    """
    files = corpus.files()
    revision = corpus.hub.revision() if corpus.hub and not files else None
    passages = Passages(corpus, files, revision)
    shown = console or Console(stderr=True)
    return build_once(
        (root or cache_root()) / "corpus",
        lambda: _key(passages, tokenizer),
        TokenCache.open,
        lambda folder: _write(folder, passages, tokenizer, shown),
        name="the corpus's cache",
        files=[file.path for file in files],
        say=lambda said: shown.print(said, soft_wrap=True, highlight=False, markup=False),
    )


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
    with readable(path):
        return digest_of(path)


def _write(folder: Path, passages: Passages, tokenizer: Tokenizer, console: Console) -> None:
    total = sum(file.path.stat().st_size for file in passages.files) or None
    with _Writer(folder, token_type(len(tokenizer))) as writer, _progress(console) as progress:
        bar, unknown = progress.add_task("tokenizing the corpus", total=total, tokens=0), 0
        for begins, lengths, tokens in _tokenized(passages, tokenizer):
            writer.add(begins, lengths, tokens)
            unknown += int((tokens == tokenizer.unk).sum())
            progress.update(bar, completed=passages.reading.position(), tokens=writer.tokens)
        if not writer.tokens:
            raise DataError(f"{passages.corpus.source} has no words.")
        share = unknown / writer.tokens
        said = f"{100 * share:.2g} % of the corpus's tokens are words that the encoder's tokenizer does not know"
        writer.finish([*passages.notes(), *([said] if share >= SHOWN else [])])


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[tokens]:,} tokens"),
    )
    shown = console.is_terminal
    there = console if shown else Console(quiet=True)  # before rich 14.3, one that is disabled ends with a line
    return Progress(*columns, TimeRemainingColumn(), console=there, transient=True, disable=not shown)


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
        self.hashes = {name: hashlib.sha256() for name in (TOKENS, PASSAGES, DOCUMENTS)}

    def __enter__(self) -> "_Writer":
        self.files = {name: (self.folder / name).open("wb") for name in self.hashes}
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
        hashes = {name: found.hexdigest() for name, found in self.hashes.items()}
        header = header_text({"type": self.kind, **counts, "hashes": hashes, "notes": notes})
        self.files[HEADER].write(header.encode())
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())

    def _append(self, name: str, values: np.ndarray) -> None:
        content = values.astype(self.kind if name == TOKENS else np.int64, copy=False).data
        self.files[name].write(content)
        self.hashes[name].update(content)
