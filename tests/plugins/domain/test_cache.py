"""The cache of a corpus: what the tokenizer says, kept once, and never half."""

import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from regkit_plugins.domain.corpus import Corpus, TokenCache, build, load_corpus, read_documents
from regkit_plugins.domain.corpus.cache import HEADER, header_text, read_header, token_type
from rich.console import Console

from regkit.base.errors import ConfigError, DataError
from regkit.base.kept import cache_root
from regkit.model.tokenizer import Tokenizer
from tests.helpers import PATIENT, VOCABULARY, everything_in

TEXT = "".join(f"the {n}. It is {n % 7}.\n" for n in range(40))
PASSAGES = st.lists(st.lists(st.integers(0, 70_000), max_size=5), max_size=4)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_of(tmp_path_factory.mktemp("encoder"), VOCABULARY)


def tokenizer_of(folder: Path, vocabulary: list[str]) -> Tokenizer:
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf8")
    return Tokenizer.load(folder)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf8")
    return path


def load(path: Path, tokenizer: Tokenizer, console: Console | None = None, **options: Any) -> TokenCache:
    """With the cache in a folder beside the text."""
    return load_corpus(Corpus(str(path), **options), tokenizer, root=path.parent / "root", console=console)


def ids(cache: TokenCache) -> list[list[list[int]]]:
    """Each document's passages."""
    return [[cache.passage(passage).tolist() for passage in cache.document(document)] for document in range(len(cache))]


def caches(folder: Path) -> list[str]:
    """What is there beside locks."""
    found = (folder / "root" / "corpus").glob("*")
    return sorted(path.name for path in found if path.suffix != ".lock")


@pytest.fixture
def no_tokenizing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and whoever tokenizes from then on fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("tokenized again")

    return lambda: monkeypatch.setattr(Tokenizer, "encode", refuse)


@settings(PATIENT, max_examples=12)  # each waits for the disk
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40), max_size=12))
def test_the_cache_holds_what_the_tokenizer_says_of_every_passage(
    tmp_path: Path, tokenizer: Tokenizer, lines: list[str]
) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(["begin", *lines]), encoding="utf8", newline="")
    for layout in ("lines", "blank"):
        corpus = Corpus(str(path), documents=layout)
        encoded = [list(filter(None, tokenizer.encode(document))) for document in read_documents(corpus)]
        cache = load_corpus(corpus, tokenizer, root=tmp_path / "root")
        assert ids(cache) == [document for document in encoded if document]


def test_batches_do_not_show(text: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(text, tokenizer)
    for size in (1, 150, 1000):
        monkeypatch.setattr(build, "BATCH", size)
        parts = load_corpus(Corpus(str(text)), tokenizer, root=text.parent / str(size))
        assert whole.folder
        assert parts.folder
        assert everything_in(whole.folder) == everything_in(parts.folder)


def test_a_passage_without_a_word_is_left_out_and_its_document_goes_on(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BATCH", 1)
    path = tmp_path / "a.txt"
    path.write_text("\u200b\na\n\u200b\nb\n\n\u200b\n\nc\n\u200b\n", encoding="utf8")
    cache = load(path, tokenizer, documents="blank")
    assert ids(cache) == [tokenizer.encode(["a", "b"]), tokenizer.encode(["c"])]
    assert "4 passages without a word were left out" in cache.notes


def test_words_that_the_tokenizer_does_not_know_are_mentioned(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\u2603\na\nb\nc\n" * 10, encoding="utf8")
    assert (
        "25 % of the corpus's tokens are words that the encoder's tokenizer does not know"
        in load(path, tokenizer).notes
    )


def test_a_cache_says_how_large_it_is(text: Path, tokenizer: Tokenizer) -> None:
    cache = load(text, tokenizer)
    lengths = [len(passage) for document in ids(cache) for passage in document]
    assert (len(cache), cache.passages, cache.size) == (40, 80, sum(lengths))
    assert cache.lengths().tolist() == lengths
    assert cache.document(3) == range(6, 8)
    assert cache.notes == ("a document is a line (a guess; documents= says otherwise)",)


def test_ids_take_two_bytes_where_the_vocabulary_allows(text: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert load(text, tokenizer).tokens.dtype == np.uint16
    (tmp_path / "large").mkdir()
    large = tokenizer_of(tmp_path / "large", [*VOCABULARY, *(f"w{n}" for n in range(70_000)), "the"])
    cache = load(text, large)
    assert cache.tokens.dtype == np.int32
    assert cache.tokens.max() == len(large) - 1
    assert [token_type(size) for size in (65_536, 65_537)] == ["uint16", "int32"]


def test_a_cache_cannot_be_written_to(text: Path, tokenizer: Tokenizer) -> None:
    cache = load(text, tokenizer)
    for array in (cache.tokens, cache.starts, cache.document_offsets):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@PATIENT
@given(st.lists(PASSAGES, max_size=5))
def test_a_cache_in_memory_holds_what_it_was_given(documents: list[list[list[int]]]) -> None:
    kept = [[passage for passage in document if passage] for document in documents]
    assert ids(TokenCache.of(documents)) == [document for document in kept if document]


def test_a_second_run_starts_from_the_cache(
    text: Path, tokenizer: Tokenizer, no_tokenizing: Callable[[], None]
) -> None:
    first = load(text, tokenizer)
    no_tokenizing()
    moved = text.rename(text.with_name("moved.txt"))
    os.utime(moved)
    again = load(moved, tokenizer)
    assert again.folder == first.folder
    assert ids(again) == ids(first)


def test_whatever_the_ids_depend_on_makes_another_cache(text: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tokenizer_of(tmp_path / "other", [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]])
    before = text.stat()
    rows = text.with_name("rows.jsonl")
    rows.write_text('{"text": "a", "body": "b"}\n')
    found = [load(text, tokenizer), load(text, other), load(text, tokenizer, documents="files")]
    found += [load(text, tokenizer, errors="replace"), load(rows, tokenizer), load(rows, tokenizer, field="body")]
    text.write_text(TEXT.replace("the 7", "the 8"))
    os.utime(text, ns=(before.st_atime_ns, before.st_mtime_ns))
    found.append(load(text, tokenizer))
    assert len({cache.folder for cache in found}) == len(found) == 7
    assert ids(found[-1]) != ids(found[0])


def test_where_one_file_ends_and_another_begins_is_part_of_the_content(tmp_path: Path, tokenizer: Tokenizer) -> None:
    found = []
    for number, texts in enumerate([("a\nb\n", "c\n"), ("a\n", "b\nc\n"), ("a\nb\nc\n",)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in enumerate(texts):
            (folder / f"{name}.txt").write_text(content)
        found.append(load_corpus(Corpus(str(folder), documents="files"), tokenizer, root=tmp_path / "root"))
    assert [[len(document) for document in ids(cache)] for cache in found] == [[2, 1], [1, 2], [3]]


@pytest.mark.parametrize("when", ["changed", "removed"])
def test_a_file_that_changes_while_it_is_read_makes_no_cache(text: Path, tokenizer: Tokenizer, when: str) -> None:
    class Slow(Tokenizer):
        def encode(self, texts: Any) -> list[list[int]]:
            text.write_text(TEXT + "more") if when == "changed" else text.unlink(missing_ok=True)
            return super().encode(texts)

    with pytest.raises(DataError, match="was changed while it was read"):
        load(text, Slow(tokenizer.backend))
    assert not caches(text.parent)


@pytest.mark.parametrize("content", ["", "\n \n", "\u200b\n"])
def test_a_corpus_without_words_is_an_error_and_leaves_nothing(
    tmp_path: Path, tokenizer: Tokenizer, content: str
) -> None:
    path = tmp_path / "empty.txt"
    path.write_text(content, encoding="utf8")
    with pytest.raises(DataError, match=r"empty\.txt has no words\.$"):
        load(path, tokenizer)
    assert not caches(tmp_path)


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGKIT_CACHE", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"
    monkeypatch.delenv("REGKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "regkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "regkit"


def damage(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "tokens cut": damage("tokens.bin", lambda content: content[:-2]),
    "tokens cut within one": damage("tokens.bin", lambda content: content[:-1]),
    "tokens empty": damage("tokens.bin", lambda content: b""),
    "tokens of other words": damage("tokens.bin", lambda content: content[::-1]),
    "tokens beyond the vocabulary": damage("tokens.bin", lambda content: b"\xff" * len(content)),
    "passages that overlap": damage("passages.bin", lambda content: content[:8] + content[16:24] + content[16:]),
    "tokens gone": lambda folder: (folder / "tokens.bin").unlink(),
    "passages cut": damage("passages.bin", lambda content: content[:-8]),
    "passages longer": damage("passages.bin", lambda content: content + bytes(8)),
    "passages end in zeros": damage("passages.bin", lambda content: content[:-16] + bytes(16)),
    "documents cut": damage("documents.bin", lambda content: content[8:]),
    "documents begin elsewhere": damage("documents.bin", lambda content: b"\1" + content[1:]),
    "header gone": lambda folder: (folder / HEADER).unlink(),
    "header cut": damage(HEADER, lambda content: content[:-20]),
    "header no object": damage(HEADER, lambda content: b"[]"),
    "header changed": damage(HEADER, lambda content: content.replace(b'"documents": 40', b'"documents": 39')),
    "header names another type": damage(HEADER, lambda content: content.replace(b"uint16", b"int16")),
    "another format": lambda folder: (folder / HEADER).write_text(header_text(read_header(folder) | {"format": 0})),
    "everything gone": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_cache_is_recognised_and_built_again(text: Path, tokenizer: Tokenizer, name: str) -> None:
    folder = load(text, tokenizer).folder
    assert folder
    whole = everything_in(folder)
    DAMAGES[name](folder)
    with pytest.raises(DataError):
        TokenCache.open(folder)
    said = StringIO()
    again = load(text, tokenizer, Console(file=said))
    assert said.getvalue().startswith("The corpus's cache is built again: ")
    assert again.folder == folder
    assert everything_in(folder) == whole


def test_an_exception_leaves_nothing(text: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BATCH", 200)
    for error in (KeyboardInterrupt, MemoryError, RuntimeError):

        class Failing(Tokenizer):
            calls = 0

            def encode(self, texts: Any, error: type[BaseException] = error) -> list[list[int]]:
                Failing.calls += 1
                if Failing.calls == 3:
                    raise error
                return super().encode(texts)

        with pytest.raises(error):
            load(text, Failing(tokenizer.backend))
        assert not caches(text.parent)
    load(text, tokenizer)
    assert len(caches(text.parent)) == 1


@pytest.mark.parametrize("limit", [10, 1000])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(text: Path, tokenizer: Tokenizer, limit: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    text.write_text(TEXT * 30)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # a file may not grow beyond it
    try:
        with pytest.raises(DataError) as caught:
            load(text, tokenizer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value).endswith("corpus: File too large. Nothing was kept.")
    assert not caches(text.parent)


def test_a_place_that_cannot_be_a_folder_is_one_sentence(text: Path, tokenizer: Tokenizer) -> None:
    (text.parent / "root").write_text("a file")
    with pytest.raises(DataError, match="the corpus's cache cannot be written to"):
        load(text, tokenizer)


def test_everything_is_on_the_disk_before_a_cache_bears_its_name(
    text: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}  # inode and size
    rename, fsync = Path.rename, os.fsync

    def record(handle: int) -> None:
        fsync(handle)
        synced[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    def check(folder: Path, place: Path) -> Path:
        assert not place.exists()
        files = [folder, *folder.iterdir()]
        assert len(files) == 5
        assert all(synced[path.stat().st_ino] == path.stat().st_size for path in files)
        synced.clear()
        return rename(folder, place)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(Path, "rename", check)
    folder = load(text, tokenizer).folder
    assert folder
    assert list(synced) == [folder.parent.stat().st_ino]


def test_what_dead_builders_left_is_removed_and_what_a_living_one_builds_is_not(
    text: Path, tokenizer: Tokenizer
) -> None:
    folder = load(text, tokenizer).folder
    assert folder
    root = folder.parent
    for name in (f"{folder.name}.abc", "dead.abc", "alive.abc"):
        (root / f"{name}.unfinished").mkdir()
        (root / f"{name}.unfinished" / "tokens.bin").write_bytes(b"half")
    load(text, tokenizer)
    assert len(caches(text.parent)) == 4  # a cache that is there is used without a lock
    (folder / HEADER).unlink()
    with FileLock(root / "alive.lock"):
        load(text, tokenizer)
    assert caches(text.parent) == sorted([folder.name, "alive.abc.unfinished"])


def test_a_second_builder_waits_says_so_and_takes_the_firsts_cache(text: Path, tokenizer: Tokenizer) -> None:
    begun, go_on = threading.Event(), threading.Event()
    found: list[TokenCache] = []

    class Slow(Tokenizer):
        def encode(self, texts: Any) -> list[list[int]]:
            begun.set()
            assert go_on.wait(20)
            return super().encode(texts)

    class Never(Tokenizer):
        def encode(self, texts: Any) -> list[list[int]]:
            raise AssertionError

    said = StringIO()
    both = [
        threading.Thread(target=lambda: found.append(load(text, Slow(tokenizer.backend)))),
        threading.Thread(target=lambda: found.append(load(text, Never(tokenizer.backend), Console(file=said)))),
    ]
    both[0].start()
    assert begun.wait(20)
    both[1].start()
    for _ in range(2000):
        if "Waiting for another run" in said.getvalue():
            break
        time.sleep(0.01)
    go_on.set()
    for thread in both:
        thread.join(20)
    assert "Waiting for another run" in said.getvalue()
    assert found[0].folder == found[1].folder
    assert ids(found[0]) == ids(found[1])


def test_progress_is_shown_on_a_terminal_only(text: Path, tokenizer: Tokenizer) -> None:
    pipe, terminal = StringIO(), StringIO()
    load(text, tokenizer, Console(file=pipe))
    load_corpus(
        Corpus(str(text)), tokenizer, root=text.parent / "2", console=Console(file=terminal, force_terminal=True)
    )
    assert pipe.getvalue() == ""
    assert "tokenizing the corpus" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_a_set_on_the_hub_is_cached_by_its_revision(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    revision = "1"

    def load_dataset(*_: object, **options: object) -> list[dict[str, str]]:
        asked.append(options["revision"])
        return [{"text": "a\nb"}]

    class HfApi:
        def dataset_info(self, name: str) -> SimpleNamespace:
            if name == "none":
                raise OSError("offline\nreally")
            return SimpleNamespace(sha=revision)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=HfApi))
    for name, count in (("owner/name", 1), ("owner/name", 1), ("owner/name/config", 2)):
        load_corpus(Corpus(f"hub:{name}"), tokenizer, root=tmp_path / "root")
        assert len(asked) == len(caches(tmp_path)) == count
    revision = "2"
    cache = load_corpus(Corpus("hub:owner/name"), tokenizer, root=tmp_path / "root")
    assert asked == ["1", "1", "2"]
    assert ids(cache) == [tokenizer.encode(["a", "b"])]
    assert cache.notes == ()
    with pytest.raises(DataError, match=r"^hub:none cannot be found: offline\.$"):
        load_corpus(Corpus("hub:none"), tokenizer, root=tmp_path / "root")


# Parts of a cache

CACHE = TokenCache.of([[[n] * (1 + n % 3)] * (1 + n % 4) for n in range(100)])


def parts_equal(parts: list[TokenCache], whole: TokenCache) -> bool:
    """Whether the parts have the documents of the whole between them, each once and in order."""
    found = [document for part in parts for document in ids(part)]
    return sorted(found) == sorted(ids(whole)) and all(ids(part) == sorted(ids(part)) for part in parts)


@pytest.mark.parametrize(("size", "count"), [(0.1, 10), (0.001, 1), (1, 1), (7, 7), (99, 99), (0.99, 99)])
def test_held_out_documents_and_the_others_are_all_there_are(size: float, count: int) -> None:
    train, held_out = CACHE.held_out(size, seed=3)
    assert (len(train), len(held_out)) == (100 - count, count)
    assert parts_equal([train, held_out], CACHE)
    assert train.size + held_out.size == CACHE.size


def test_what_is_held_out_depends_on_the_seed_alone_and_is_spread_out() -> None:
    drawn = {seed: [document[0][0] for document in ids(CACHE.held_out(20, seed)[1])] for seed in range(30)}
    assert drawn[0] == [document[0][0] for document in ids(CACHE.held_out(20, 0)[1])]
    assert len({tuple(documents) for documents in drawn.values()}) == 30
    counts = np.bincount(np.concatenate(list(drawn.values())), minlength=100)
    assert counts.max() < 18  # of 30 draws of a fifth: 6 are expected
    assert set(np.unique(counts // 10)) == {0, 1}
    assert counts.min() <= 2


@pytest.mark.parametrize("size", [0, -1, 1.5, float("nan"), float("inf")])
def test_a_size_that_is_neither_share_nor_number_is_refused(size: float) -> None:
    with pytest.raises(ConfigError, match=r"a share between 0 and 1 or a whole number is needed\.$"):
        CACHE.held_out(size, 0)


def test_neither_part_may_be_empty() -> None:
    with pytest.raises(DataError, match="100 documents; 100 to hold out leave none"):
        CACHE.held_out(100, 0)
    with pytest.raises(DataError, match="one document; 1 to hold out leave none"):
        TokenCache.of([[[1]]]).held_out(0.1, 0)


@PATIENT
@given(st.sets(st.integers(0, CACHE.passages - 1)))
def test_without_passages_the_others_stay_in_their_documents(dropped: set[int]) -> None:
    wanted = [[list(CACHE.passage(n)) for n in CACHE.document(d) if n not in dropped] for d in range(len(CACHE))]
    assert ids(CACHE.without(np.array(sorted(dropped), int))) == [document for document in wanted if document]


def test_without_any_passage_there_is_no_corpus() -> None:
    with pytest.raises(DataError, match="no passage of the corpus is left"):
        CACHE.without(np.arange(CACHE.passages))


def test_a_cache_and_its_parts_come_back_from_a_pickle_without_their_tokens(text: Path, tokenizer: Tokenizer) -> None:
    text.write_text(TEXT * 20)
    cache = load(text, tokenizer)
    train, held_out = cache.held_out(5, 0)
    for part in (cache, train, held_out, held_out.without(np.array([0])), CACHE, CACHE.held_out(9, 0)[0]):
        again = pickle.loads(pickle.dumps(part))
        assert ids(again) == ids(part)
        assert (again.notes, again.folder) == (part.notes, part.folder)
    assert len(pickle.dumps(cache)) < 500
    assert len(pickle.dumps(held_out)) < 1500
    assert isinstance(pickle.loads(pickle.dumps(train)).tokens, np.memmap)


# Builders that are killed

BUILDER = """
import os, sys
from pathlib import Path
from regkit_plugins.domain.corpus import Corpus, build, load_corpus
from regkit.model.tokenizer import Tokenizer

text, vocabulary, root = sys.argv[1:]
build.BATCH = 1 << 14
tokenizer = Tokenizer.load(Path(vocabulary))
for line in sys.stdin:
    builders = []
    for _ in range(int(line)):
        builder = os.fork()
        if not builder:
            load_corpus(Corpus(text), tokenizer, root=Path(root))
            os._exit(0)
        builders.append(builder)
    print(*builders, flush=True)
    sys.stdin.readline()  # until then their numbers are their own
    print(*[os.waitstatus_to_exitcode(os.waitpid(builder, 0)[1]) for builder in builders], flush=True)
"""


class Builders:
    """A process that forks builders: one import of regkit for all of them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def start(self, count: int = 1) -> list[int]:
        return self._answer(str(count))

    def statuses(self) -> list[int]:
        return self._answer("")

    def _answer(self, line: str) -> list[int]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return [int(word) for word in self.process.stdout.readline().split()]


@pytest.fixture
def builders(text: Path, tokenizer: Tokenizer) -> Iterator[Builders]:
    text.write_text(TEXT * 200)
    (text.parent / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf8")
    command = [sys.executable, "-c", BUILDER, str(text), str(text.parent), str(text.parent / "root")]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}  # it would warn of the fork
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Builders(process)
        assert process.stdin
        process.stdin.close()


@pytest.mark.slow
def test_builders_killed_at_five_moments_leave_nothing_that_is_ever_used(
    builders: Builders, text: Path, tokenizer: Tokenizer
) -> None:
    """At random moments of the time that one takes."""
    reference = load_corpus(Corpus(str(text)), tokenizer, root=text.parent / "reference").folder
    assert reference
    place = text.parent / "root" / "corpus" / reference.name
    builders.start()
    begun = time.monotonic()
    assert builders.statuses() == [0]
    takes, draw, killed = time.monotonic() - begun, random.Random(0), 0
    while killed < 5:
        shutil.rmtree(place, ignore_errors=True)
        (builder,) = builders.start()
        time.sleep(draw.random() * takes)
        os.kill(builder, signal.SIGKILL)
        killed += builders.statuses() == [-signal.SIGKILL]
        assert not place.exists() or everything_in(place) == everything_in(reference)
    builders.start()
    assert builders.statuses() == [0]
    assert everything_in(place) == everything_in(reference)
    assert caches(text.parent) == [reference.name]


@pytest.mark.slow
def test_processes_that_build_at_once_end_well_with_one_cache(
    builders: Builders, text: Path, tokenizer: Tokenizer
) -> None:
    builders.start(3)
    assert builders.statuses() == [0, 0, 0]
    assert len(caches(text.parent)) == 1
    assert (
        json.loads((text.parent / "root" / "corpus" / caches(text.parent)[0] / HEADER).read_text())["documents"]
        == 8_000
    )
