"""Next passages: labels, draws against their laws, and cuts against a slow version."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from regkit_plugins.domain.corpus import TokenCache
from regkit_plugins.domain.pairs import Pairs, fit

from regkit import Tokenizer
from regkit.model.tokenizer_classes import template
from regkit.testing import tiny_tokenizer
from tests.helpers import PATIENT
from tests.plugins.domain.helpers import Documents, likely, pairs, random_documents, uniform


def owners(documents: Documents) -> dict[tuple[int, ...], tuple[int, int]]:
    """The document and the place in it of every passage, by its tokens, which must be unlike all others."""
    found = {tuple(each): (number, place) for number, one in enumerate(documents) for place, each in enumerate(one)}
    assert len(found) == sum(map(len, documents))
    return found


def split_pair(tokens: Sequence[int], segments: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both passages of a sequence, whose special tokens and segments are as BERT has them."""
    first_sep = tokens.index(3)
    assert (tokens[0], tokens[-1], tokens.count(2), tokens.count(3)) == (2, 3, 1, 2)
    assert segments == [0] * (first_sep + 1) + [1] * (len(tokens) - first_sep - 1)
    return tuple(tokens[1:first_sep]), tuple(tokens[first_sep + 1 : -1])


UNLIKE = random_documents(30, seed=2, most=7)
UNLIKE = [[[*passage, 5 + number % 92, 5 + number // 92] for passage in one] for number, one in enumerate(UNLIKE)]
UNLIKE = [[[*passage, 5 + place] for place, passage in enumerate(one)] for one in UNLIKE] + [[[50, 51, 52]]]


def test_every_pair_is_what_its_label_says() -> None:
    found, by_label = pairs(UNLIKE, room=99), Counter[int]()
    where = owners(UNLIKE)
    for epoch in range(20):
        used = Counter[tuple[int, int]]()
        batch = found.batch(range(len(found)), [1000 * epoch + row for row in range(len(found))])
        parts = [torch.split(values, list(batch.lengths)) for values in (batch.tokens, batch.segments)]
        assert batch.labels is not None
        for tokens, segments, label in zip(*parts, batch.labels.tolist(), strict=True):
            first, second = split_pair(tokens.tolist(), segments.tolist())
            (document, place), (other, its_place) = where[first], where[second]
            used.update([(document, place)] + ([(other, its_place)] if label == 0 else []))
            assert (label, label) == ((other != document), int((other, its_place) != (document, place + 1)))
            by_label[label] += 1
        assert max(used.values()) == 1  # no passage is in two pairs, but as another document's
        assert len(used) >= len(found)
    likely(by_label[0], by_label.total(), 0.5)
    assert len(found) == sum(len(document) // 2 for document in UNLIKE)
    assert found.short == 1


def test_a_pair_is_joined_as_the_tokenizer_joins_pairs() -> None:
    backend = tiny_tokenizer().backend
    backend.post_processor = template(backend, "[CLS]", "[SEP]", doubled=True)  # as RoBERTa does
    found = Pairs(TokenCache.of([[[10, 11, 12], [13] * 9], [[20], [21]]]), Tokenizer(backend), 12)
    for key in range(20):
        batch, (_, other, _) = found.batch([0], [key]), found.pair(0, key)
        second = [[13] * 5, [20], [21]][other - 1]
        assert batch.tokens.tolist() == [2, 10, 11, 12, 3, 3, *second, 3]
        assert batch.segments.tolist() == [0] * 6 + [1] * (len(second) + 1)
    assert found.lengths().tolist() == [12, 6]


def test_the_passage_of_another_document_is_any_of_theirs() -> None:
    documents = [[[9]] * 3, [[8]] * 2, [[7]] * 5, [[6]]]
    found = pairs(documents)
    for row, mine in [(0, range(3)), (1, range(3, 5)), (2, range(5, 10))]:
        drawn = Counter(other for _, other, label in (found.pair(row, key) for key in range(4000)) if label)
        assert drawn.keys() == set(range(11)) - set(mine)
        uniform(list(drawn.values()))


def test_pairs_are_drawn_by_the_key_alone_and_for_scoring_always_the_same() -> None:
    found = pairs(UNLIKE)
    keys = [[found.pair(row, key) for row in range(len(found))] for key in (1, 1, 2)]
    assert keys[0] == keys[1] != keys[2]
    assert torch.equal(found.batch([3, 1]).tokens, found.batch([3, 1]).tokens)
    scored = found.batch(range(len(found)))
    assert torch.equal(scored.labels, found.labels)
    assert 0 < float(found.labels.float().mean()) < 1


def test_passages_between_which_one_was_left_out_do_not_follow_each_other() -> None:
    cache = TokenCache.of([[[10], [11], [12], [13], [14]], [[20], [21], [22]], [[30], [31]]])
    part = Pairs(cache.without(np.array([1, 6])), tiny_tokenizer(), 32)  # 11 and 21
    follow = [tuple(int(part.cache.passage(one)[0]) for one in (first, first + 1)) for first in part.firsts]
    assert follow == [(12, 13), (30, 31)]
    assert part.short == 1


@PATIENT
@given(st.integers(1, 30), st.integers(1, 30), st.integers(2, 40))
def test_a_pair_is_cut_token_by_token_the_longer_first(one: int, other: int, room: int) -> None:
    first, second = list(range(one)), list(range(other))
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    found = fit(np.arange(one), np.arange(other), room)
    assert [part.tolist() for part in found] == [first, second]


def test_a_pair_fits_the_room_with_its_special_tokens() -> None:
    found = pairs([[[9] * 20, [8] * 30], [[7] * 3, [6] * 2]], room=16)
    for keys in range(30):
        lengths = found.batch([0, 1], [keys, keys + 1]).lengths
        assert max(lengths) <= 16
    assert found.lengths().tolist() == [16, 8]
