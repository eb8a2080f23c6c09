"""Corpus: time and memory of building a synthetic corpus's cache, and of starting from it.

    python -m tests.benchmarks.corpus ENCODER [--megabytes 500] [--call 50]

Documents are lines of sentences of random words of the vocabulary. The one call keeps every result in memory, so that it
gets the first `--call` MB only; compare tokens a second.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from regkit_plugins.domain.corpus import Corpus, TokenCache, find_leaks, load_corpus, read_documents

from regkit.model.tokenizer import Tokenizer

Result = TypeVar("Result")

STARTED = "from pathlib import Path; from regkit.model.tokenizer import Tokenizer; from regkit_plugins.domain.corpus import *; "
LOAD = STARTED + "load_corpus(Corpus({!r}), Tokenizer.load(Path({!r})), root=Path({!r}))"


def write_corpus(path: Path, tokenizer: Tokenizer, megabytes: float) -> None:
    """Lines of 3 to 12 sentences of 6 to 30 words."""
    draw = random.Random(0)
    words = [word for word in tokenizer.backend.get_vocab() if word.isascii() and word.isalpha()]
    with path.open("w", encoding="utf8") as file:
        while file.tell() < megabytes * 1e6:
            lines = []
            for _ in range(1000):
                sentences = (" ".join(draw.choices(words, k=draw.randint(6, 30))) for _ in range(draw.randint(3, 12)))
                lines.append(". ".join(sentence.capitalize() for sentence in sentences) + ".\n")
            file.writelines(lines)


def run(program: str) -> tuple[float, float]:
    """Seconds and peak MB of a Python program in a process of its own."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the program failed")
    return time.perf_counter() - begun, used.ru_maxrss * 1024 / 1e6


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    begun = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begun


def measure(folder: Path, encoder: Path, megabytes: float, call: float) -> None:
    text, root = folder / "corpus.txt", folder / "cache"
    tokenizer = Tokenizer.load(encoder)
    write_corpus(text, tokenizer, megabytes)
    base, memory = run(STARTED)
    print(f"importing regkit: {base:.1f} s, {memory:.0f} MB", flush=True)
    load = LOAD.format(str(text), str(encoder), str(root))
    seconds, peak = run(load)
    cache, again = timed(lambda: load_corpus(Corpus(str(text)), tokenizer, root=root))
    print(f"{text.stat().st_size / 1e6:.0f} MB: {len(cache)} documents, {cache.passages} passages, {cache.size} tokens")
    print(f"building: {seconds - base:.1f} s, {peak:.0f} MB, {cache.size / (seconds - base):.0f} tokens/s", flush=True)
    print(f"second start: {again:.2f} s", flush=True)
    first = folder / "first.txt"
    write_corpus(first, tokenizer, call)
    texts = [passage for document in read_documents(Corpus(str(first))) for passage in document]
    encoded, seconds = timed(lambda: tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False))
    count = sum(len(each) for each in encoded)
    print(f"one batched call, {call:.0f} MB: {seconds:.1f} s, {count / seconds:.0f} tokens/s", flush=True)
    leaks(cache)


def leaks(cache: TokenCache) -> None:
    """Ten thousand texts, half of them from the corpus."""
    random = np.random.default_rng(0)
    there = [cache.passage(number) for number in random.integers(cache.passages, size=5000)]
    texts = {"dev": there + [random.permutation(text) for text in there]}
    found, seconds = timed(lambda: find_leaks(cache, texts))
    print(f"leaks: {len(found.texts['dev'])} of 10000 texts found in {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What building a corpus's cache takes.")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--megabytes", type=float, default=500)
    parser.add_argument("--call", type=float, default=50)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), chosen.encoder, chosen.megabytes, chosen.call)
