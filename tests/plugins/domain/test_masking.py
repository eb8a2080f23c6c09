"""Masked words: draws against their laws, sequences against a slow version."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain, count

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from regkit_plugins.domain.corpus import TokenCache
from regkit_plugins.domain.masking import MaskedTexts, spans
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace, PreTokenizer, WhitespaceSplit

from regkit import PluginError, Task
from regkit.data.order import Feed
from regkit.model.tokenizer import Tokenizer
from regkit.testing import TINY
from tests.helpers import PATIENT, VOCABULARY
from tests.plugins.domain.helpers import (
    MLM,
    gradients,
    heads,
    likely,
    masked,
    random_documents,
    tokens_of,
    uniform,
    words,
)


def letters() -> Tokenizer:
    """Every letter is a token, and every one but the first of a word a piece inside it."""
    backend = Backend(WordPiece(dict(zip(VOCABULARY, count(), strict=False)), unk_token="[UNK]"))
    backend.pre_tokenizer = BertPreTokenizer()
    return Tokenizer(backend)


def test_a_quarter_of_a_million_tokens_are_chosen_and_replaced_in_their_shares() -> None:
    chooser, random = words(), np.random.default_rng(0)
    kinds, drawn, places = Counter[str](), np.zeros(TINY.vocab_size, int), np.zeros(126, int)
    chosen_of_special = candidates = 0
    for _ in range(2000):
        tokens = np.concatenate([[2], random.integers(1, TINY.vocab_size, 126), [3]])
        tokens[tokens == 4] = 5  # so that every [MASK] is one of ours
        chosen = chooser.choose(tokens, random)
        hidden = chooser.hide(tokens, chosen, random)
        free = int((tokens >= 5).sum())
        assert len(chosen) == round(0.15 * free)
        assert np.array_equal(chosen, np.unique(chosen))
        assert np.array_equal(np.delete(hidden, chosen), np.delete(tokens, chosen))
        candidates += free
        chosen_of_special += int((tokens[chosen] < 5).sum())
        places[chosen - 1] += 1
        now, was = hidden[chosen], tokens[chosen]
        kinds.update({"mask": int((now == 4).sum()), "same": int((now == was).sum()), "all": len(now)})
        others = now[(now != 4) & (now != was)]
        drawn += np.bincount(others, minlength=TINY.vocab_size)
    assert candidates > 225_000
    assert chosen_of_special == 0
    uniform(places)
    by_chance = 0.1 / TINY.vocab_size  # any word may be drawn, [MASK] and the word itself too
    likely(kinds["mask"], kinds["all"], 0.8 + by_chance)
    likely(kinds["same"], kinds["all"], 0.1 + by_chance)
    uniform(np.delete(drawn[:5], 4))
    uniform(drawn[6:])  # a word that was never there is as likely: 5 stood for [MASK]


def test_one_token_at_least_is_chosen_and_none_where_all_are_special() -> None:
    chooser, random = words(0.01), np.random.default_rng(0)
    assert [chooser.choose(np.array([2, 9, 3]), random).tolist() for _ in range(5)] == [[1]] * 5
    assert len(chooser.choose(np.array([2, 9, 8, 7, 3]), random)) == 1
    for whole in (False, True):
        assert len(words(0.5, whole).choose(np.array([2, 1, 3]), random)) == 0


def test_a_text_of_unknown_words_alone_gives_no_loss_and_no_error() -> None:
    texts, model = masked([[[1, 1, 1]]]), heads(random_documents())
    task = Task("mlm", MLM, {"train": texts})
    batch = texts.batch([0], [5])
    assert batch.predictions == 0
    assert float(gradients(model, task, [batch])) == 0
    assert all(each.grad is None or not each.grad.any() for each in model.parameters())


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_of_a_whole_word_all_pieces_are_chosen_or_none(share: float) -> None:
    tokenizer, random = letters(), np.random.default_rng(0)
    chooser = words(share, True, tokenizer)
    chosen_words, chosen_tokens, free = np.zeros(6, int), 0, 0
    for _ in range(300):
        sizes = random.permutation(np.tile([1, 2, 3, 4, 5, 6], 5))
        text = " ".join("".join(random.choice(list("abcdef"), size)) for size in sizes)
        tokens = np.concatenate([[2], tokenizer.encode([text])[0], [3]])
        chosen = set(chooser.choose(tokens, random).tolist())
        ends = 1 + np.cumsum(sizes)
        for size, end in zip(sizes, ends, strict=True):
            word = set(range(end - size, end))
            assert word <= chosen or not word & chosen
            chosen_words[size - 1] += word <= chosen
        wanted = round(share * sizes.sum())
        assert wanted <= len(chosen) <= wanted + 5  # the last word may bring pieces too many
        assert chosen <= set(range(1, len(tokens) - 1))
        chosen_tokens, free = chosen_tokens + len(chosen), free + sizes.sum()
    assert share <= chosen_tokens / free < share + 2.5 / 105
    assert np.ptp(chosen_words) < 0.3 * chosen_words.mean()  # a long word is about as likely as a short one


def test_a_text_that_begins_inside_a_word_has_that_piece_as_a_word() -> None:
    tokenizer, random = letters(), np.random.default_rng(0)
    tokens = np.array(tokenizer.encode(["abc de"])[0][1:])  # ##b ##c d ##e
    found = {tuple(words(0.1, True, tokenizer).choose(tokens, random).tolist()) for _ in range(50)}
    assert found == {(0, 1), (2, 3)}


def spaced(pre_tokenizer: PreTokenizer, mark: str) -> Tokenizer:
    """A tokenizer of letters that marks the space before a word."""
    vocabulary = {
        word: number for number, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", mark, f"{mark}a"])
    }
    backend = Backend(BPE(vocabulary, [(mark, "a")], unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizer
    return Tokenizer(backend)


@pytest.mark.parametrize(
    ("pre_tokenizer", "mark"), [(ByteLevel(add_prefix_space=False), "Ġ"), (Metaspace(prepend_scheme="never"), "▁")]
)
def test_where_spaces_are_marked_a_word_is_what_stands_between_them(pre_tokenizer: PreTokenizer, mark: str) -> None:
    tokenizer, random = spaced(pre_tokenizer, mark), np.random.default_rng(0)
    tokens = tokenizer.join([tokenizer.encode(["abb ab b"])[0]])[0]
    assert tokens == [1, 4, 5, 5, 7, 5, 6, 5, 2]  # a b b, space-a b, space b
    found = {tuple(words(0.2, True, tokenizer).choose(np.array(tokens), random).tolist()) for _ in range(50)}
    assert found == {(1, 2, 3), (4, 5), (6, 7)}


def test_whole_words_are_refused_where_no_word_is_marked() -> None:
    tokenizer = spaced(WhitespaceSplit(), "_")
    with pytest.raises(
        PluginError, match=r"^'domain' has whole_words, but this encoder's tokenizer does not mark where words begin"
    ):
        words(0.2, True, tokenizer)
    words(0.2, False, tokenizer)


def test_masks_are_those_of_the_key_alone_and_without_one_always_the_same() -> None:
    texts = masked(random_documents(), share=0.3)
    one, same, other = (texts.batch([0, 1], keys) for keys in ([7, 8], [7, 8], [9, 8]))
    assert torch.equal(one.tokens, same.tokens)
    assert torch.equal(one.targets, same.targets)
    first = one.counts[0]
    assert not torch.equal(one.tokens[:first], other.tokens[:first])
    assert torch.equal(one.tokens[first:], other.tokens[first:])  # whatever else is in the batch
    scored = [texts.batch(rows) for rows in ([0, 1], [0, 1], [1, 0])]
    assert torch.equal(scored[0].tokens, scored[1].tokens)
    assert torch.equal(scored[0].tokens, torch.cat([scored[2].tokens[-first:], scored[2].tokens[:-first]]))
    assert not torch.equal(scored[0].tokens, one.tokens)


def test_masks_change_from_epoch_to_epoch() -> None:
    task = Task("mlm", MLM, {"train": masked(random_documents(), share=0.3)}, batch_size=4)
    feed = Feed(task, 0, "domain")
    shown: dict[int, list[bytes]] = {}
    for number in range(2 * task.batches):
        for batch in feed.micro_batches(number, 10_000):
            for row, tokens in zip(batch.rows, torch.split(batch.tokens, list(batch.lengths)), strict=True):
                shown.setdefault(row, []).append(tokens.numpy().tobytes())
    assert all(len(each) == 2 for each in shown.values())
    assert sum(one != other for one, other in shown.values()) > 0.8 * len(shown)


def test_labels_are_the_words_that_were_there_and_targets_where() -> None:
    texts = masked(random_documents(), share=0.3)
    batch = texts.batch([3, 0, 5], [1, 2, 3])
    original = np.concatenate([texts.sequence(row) for row in (3, 0, 5)])
    assert batch.labels is not None
    assert batch.targets is not None
    assert batch.labels.tolist() == original[batch.targets].tolist()
    changed = np.flatnonzero(original != batch.tokens.numpy())
    assert set(changed) <= set(batch.targets.tolist())
    assert len(changed) > 0.7 * len(batch.targets)
    assert batch.lengths == tuple(texts.lengths()[[3, 0, 5]])


LENGTHS = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=1, max_size=5)


def slow_spans(runs: Sequence[Sequence[Sequence[int]]], room: int) -> list[list[int]]:
    """Token by token: a sequence ends where its document does, and where the rest of a passage would not fit."""
    found: list[list[int]] = []
    for run in runs:
        held: list[int] = []
        for passage in run:
            rest = list(passage)
            if held and len(held) + len(rest) > room:
                found.append(held)
                held = []
            while len(rest) > room:
                found.append(rest[:room])
                rest = rest[room:]
            held = held + rest
        if held:
            found.append(held)
    return found


@PATIENT
@given(LENGTHS, st.integers(1, 15), st.data())
def test_sequences_are_those_of_a_slow_version_whatever_was_left_out(
    lengths: list[list[int]], room: int, data: st.DataObject
) -> None:
    numbers = count(5)
    documents = [[[next(numbers) for _ in range(size)] for size in document] for document in lengths]
    cache = TokenCache.of(documents)
    dropped = data.draw(st.sets(st.integers(0, cache.passages - 1), max_size=cache.passages - 1))
    runs: list[list[list[int]]] = []
    passages = count()
    for document in documents:
        runs.append([])
        for passage in document:
            runs.append([]) if next(passages) in dropped else runs[-1].append(passage)
    part = cache.without(np.array(sorted(dropped), int))
    found = [part.tokens[start:end].tolist() for start, end in spans(part, room)]
    assert found == slow_spans(runs, room)
    assert [*chain.from_iterable(found)] == [token for run in runs for passage in run for token in passage]
    assert max(map(len, found)) <= room


@PATIENT
@given(LENGTHS, st.integers(3, 15))
def test_a_sequence_has_its_special_tokens_within_the_room(lengths: list[list[int]], room: int) -> None:
    documents = [[[9] * size for size in document] for document in lengths]
    texts = masked(documents, room=room)
    assert max(texts.lengths()) <= room
    for row, length in enumerate(texts.lengths()):
        sequence = texts.sequence(row)
        assert len(sequence) == length
        assert (sequence[0], sequence[-1], set(sequence[1:-1].tolist())) == (2, 3, {9})


def test_what_is_held_out_is_not_trained_on() -> None:
    documents = random_documents(40)
    parts = TokenCache.of(documents).held_out(0.25, 3)
    train, dev = ({tuple(each) for each in tokens_of(MaskedTexts(part, words(), 999))} for part in parts)
    assert (len(train), len(dev)) == (30, 10)
    assert train | dev == {tuple(chain.from_iterable(document)) for document in documents}
