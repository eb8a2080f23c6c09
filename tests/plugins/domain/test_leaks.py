"""Leaks: what the search finds is what a slow one finds, wherever a text stands."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from regkit_plugins.domain import searched
from regkit_plugins.domain.corpus import TokenCache, find_leaks, leaks
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from regkit import Tokenizer
from tests.helpers import PATIENT

Ids = Sequence[int]
FEW = st.integers(0, 2)  # so few different tokens that texts occur often
DOCUMENTS = st.lists(st.lists(st.lists(FEW, max_size=12), max_size=4), min_size=1, max_size=5)
TEXTS = st.lists(st.lists(FEW, max_size=9), max_size=8)


def naive(
    documents: Sequence[Sequence[Ids]], texts: Mapping[str, Sequence[Ids]], window: int
) -> tuple[dict[str, list[int]], list[int]]:
    """Compare every text with every place."""
    found: dict[str, set[int]] = {name: set() for name in texts}
    held, first = set(), 0
    for document in documents:
        flat = [token for passage in document for token in passage]
        owner = [first + number for number, passage in enumerate(document) for _ in passage]
        for name, group in texts.items():
            for number, text in enumerate(group):
                for place in range(len(flat) - len(text) + 1 if text else 0):
                    touched = owner[place : place + len(text)]
                    is_passage = len(set(touched)) == 1 and owner.count(touched[0]) == len(text)
                    if flat[place : place + len(text)] == list(text) and (len(text) >= window or is_passage):
                        found[name].add(number)
                        held.update(touched)
        first += len(document)
    return {name: sorted(numbers) for name, numbers in found.items()}, sorted(held)


def arrays(texts: Mapping[str, Sequence[Ids]]) -> dict[str, list[np.ndarray]]:
    return {name: [np.array(text, np.int64) for text in group] for name, group in texts.items()}


@PATIENT
@given(DOCUMENTS, TEXTS, TEXTS, st.integers(1, 6), st.sampled_from([1, 7, 1 << 16]))
def test_what_is_found_is_what_a_slow_search_finds(
    documents: list[list[list[int]]], dev: list[list[int]], test: list[list[int]], window: int, chunk: int
) -> None:
    documents = [[passage for passage in document if passage] for document in documents]
    if not any(documents):
        documents = [[[0]]]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CHUNK", "PASSAGES", "COMPARED"):
            patch.setattr(leaks, name, chunk)
        found = find_leaks(TokenCache.of(documents), arrays({"dev": dev, "test": test}), window)
    texts, passages = naive(documents, {"dev": dev, "test": test}, window)
    assert found.texts == texts
    assert found.passages.tolist() == passages


@PATIENT
@given(DOCUMENTS, TEXTS, st.data())
def test_nothing_is_found_across_what_was_left_out(
    documents: list[list[list[int]]], texts: list[list[int]], data: st.DataObject
) -> None:
    cache = TokenCache.of([[[0], [1]], *documents])
    dropped = data.draw(st.sets(st.integers(0, cache.passages - 1), max_size=cache.passages - 1))
    part = cache.without(np.array(sorted(dropped), int))
    found = find_leaks(part, arrays({"dev": texts}), window=3)
    runs: list[list[list[int]]] = []  # passages that still follow one another: what lies between them is gone
    for document in range(len(cache)):
        runs.append([])
        for number in cache.document(document):
            runs.append([]) if number in dropped else runs[-1].append(cache.passage(number).tolist())
    expected, passages = naive(runs, {"dev": texts}, 3)
    assert found.texts == expected
    assert found.passages.tolist() == passages


@PATIENT
@given(DOCUMENTS, TEXTS)
def test_what_is_dropped_leaves_no_leak(documents: list[list[list[int]]], texts: list[list[int]]) -> None:
    cache = TokenCache.of([*documents, [[9]]])  # which no text has
    found = find_leaks(cache, arrays({"dev": texts}), window=3)
    assert find_leaks(cache.without(found.passages), arrays({"dev": texts}), window=3).texts == {"dev": []}


def test_a_text_may_go_on_over_passages_but_not_over_documents() -> None:
    cache = TokenCache.of([[[1, 2, 3], [4, 5], [6, 7, 8]], [[9, 10], [11]]])
    texts = arrays({"dev": [[3, 4, 5, 6], [7, 8, 9], [9, 10, 11], [10, 11, 12]], "test": [[1, 2, 3]]})
    found = find_leaks(cache, texts, window=3)
    assert found.texts == {"dev": [0, 2], "test": [0]}
    assert found.passages.tolist() == [0, 1, 2, 3, 4]


def test_a_short_text_counts_only_as_a_whole_passage() -> None:
    cache = TokenCache.of([[[1, 2], [1, 2, 3]], [[2, 3]]])
    found = find_leaks(cache, arrays({"dev": [[1, 2], [2, 3], [1], [1, 2, 3]]}))
    assert found.texts == {"dev": [0, 1, 3]}
    assert found.passages.tolist() == [0, 1, 2]


@pytest.mark.parametrize("space", [False, True])
def test_a_text_is_found_within_a_passage_whatever_its_first_token_is_there(space: bool) -> None:
    words = {word: number for number, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "a", "b", "Ġ", "Ġa", "Ġb"])}
    backend = Backend(BPE(words, [("Ġ", "a"), ("Ġ", "b")]))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=space)
    tokenizer = Tokenizer(backend)
    text, short = "a b b a b a a b a b", "b b b"
    passages = tokenizer.encode([f"b a {text} b", text, short, f"a {short}"])
    texts = [np.array(ids) for ids in tokenizer.encode([text, short])]
    found = find_leaks(TokenCache.of([[passage] for passage in passages]), {"dev": searched(texts, tokenizer)})
    assert (found.texts, found.passages.tolist()) == ({"dev": [0, 1]}, [0, 1, 2])


def test_texts_that_begin_alike_are_told_apart() -> None:
    text = list(range(100))
    cache = TokenCache.of([[text, [7, *text[:50], 7]]])
    texts = [text, [*text[:99], 0], text[:50], [*text[:50], 7], text[:50], [*text, 7]]
    found = find_leaks(cache, arrays({"dev": texts}))
    assert found.texts == {"dev": [0, 2, 3, 4, 5]}


def test_texts_are_found_in_a_large_corpus() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 60, 20_000)
    flat = random.integers(0, 30_000, lengths.sum())
    passages = np.split(flat, np.cumsum(lengths)[:-1])
    cache = TokenCache.of([passages[first : first + 10] for first in range(0, len(passages), 10)])
    there = random.choice(len(passages), 500, replace=False)
    texts = {"dev": [passages[number] for number in there], "test": [random.permutation(flat[:20]) for _ in range(500)]}
    found = find_leaks(cache, texts)
    assert found.texts == {"dev": list(range(500)), "test": []}
    assert set(there) <= set(found.passages.tolist())


@pytest.mark.parametrize("texts", [{}, {"dev": []}, {"dev": [[]]}])
def test_no_texts_are_no_leaks(texts: dict[str, list[Ids]]) -> None:
    found = find_leaks(TokenCache.of([[[1, 2, 3]]]), arrays(texts))
    assert found.texts == {name: [] for name in texts}
    assert found.passages.tolist() == []
