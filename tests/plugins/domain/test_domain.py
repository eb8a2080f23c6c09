"""Domain pretraining against transformers, its draws against their laws, its sequences and pairs against slow versions."""

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from regkit_plugins.bregman import Bregman
from regkit_plugins.domain import MLM_HEAD, NSP_HEAD, Domain
from regkit_plugins.domain.corpus import TokenCache
from regkit_plugins.domain.masking import MaskedTexts, Words, spans
from regkit_plugins.domain.pairs import Pairs, fit
from regkit_plugins.ema import EMA
from regkit_plugins.r3f import R3F
from regkit_plugins.rdrop import RDrop
from regkit_plugins.rrobin import RoundRobin
from regkit_plugins.smart import Smart
from regkit_plugins.uncertainty import Uncertainty
from scipy.stats import binomtest, chisquare
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor
from torch.nn import functional as F

from regkit import Classification, Experiment, MaskedWords, Settings, Streams, Task, hookimpl
from regkit.base.errors import PluginError
from regkit.data.order import Feed
from regkit.hooks.compose import compose
from regkit.hooks.defaults import Defaults
from regkit.model import Bert, MultitaskModel, load_encoder, load_known_heads
from regkit.model.tokenizer import Tokenizer
from regkit.runs import checkpoint
from regkit.tasks.batch import Batch
from regkit.tasks.task import Examples, Stage
from regkit.testing import TINY, Snapshot, same_weights, tiny_tasks, tiny_tokenizer, tiny_trainer
from regkit.training.loop import Trainer
from regkit.training.passes import Passes
from regkit.training.stages import make_optimizer, prepare
from regkit.training.update import Update
from tests.helpers import (
    PATIENT,
    SPECIAL,
    VOCABULARY,
    compute,
    regkit,
    sentence,
    slow_but,
    stages_of,
    write_encoder,
    write_tasks,
)
from tests.plugins.oracle import gradients_by_their_names

Documents = Sequence[Sequence[Sequence[int]]]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
MLM, NSP = MaskedWords(TINY.vocab_size), Classification(2)
STEPS = 5  # of the domain stage in the runs below
FEW = 3  # of fine-tuning


def random_documents(documents: int = 12, *, seed: int = 0, most: int = 6, longest: int = 14) -> list[list[list[int]]]:
    """Documents of 2 to `most` passages of 1 to `longest` tokens that are not special."""
    random = np.random.default_rng(seed)
    sizes = [random.integers(1, longest + 1, random.integers(2, most + 1)) for _ in range(documents)]
    return [[random.integers(len(SPECIAL), TINY.vocab_size, size).tolist() for size in each] for each in sizes]


def write_corpus(path: Path, documents: Documents) -> str:
    """As text whose tokens these are, with blank lines between documents."""
    texts = ("\n".join(" ".join(str(token - len(SPECIAL)) for token in each) for each in one) for one in documents)
    path.write_text("\n\n".join(texts) + "\n", encoding="utf8")
    return str(path)


def letters() -> Tokenizer:
    """Every letter is a token, and every one but the first of a word a piece inside it."""
    backend = Backend(WordPiece(dict(zip(VOCABULARY, count(), strict=False)), unk_token="[UNK]"))
    backend.pre_tokenizer = BertPreTokenizer()
    return Tokenizer(backend)


def words(share: float = 0.15, whole: bool = False, tokenizer: Tokenizer | None = None) -> Words:
    tokenizer = tokenizer or tiny_tokenizer()
    return Words(tokenizer, len(tokenizer), share, whole)


def masked(documents: Documents, *, room: int = TINY.max_position_embeddings, share: float = 0.15) -> MaskedTexts:
    return MaskedTexts(TokenCache.of(documents), words(share), room)


def pairs(documents: Documents, *, room: int = TINY.max_position_embeddings) -> Pairs:
    return Pairs(TokenCache.of(documents), tiny_tokenizer(), room)


def tokens_of(dataset: Any) -> list[list[int]]:
    """Every sequence of a corpus's texts, without special tokens, unmasked."""
    return [dataset.sequence(row)[1:-1].tolist() for row in range(len(dataset))]


# Against transformers


def heads(documents: Documents, **changes: Any) -> MultitaskModel:
    """A tiny model with both heads, with biases that a fresh one does not have."""
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = MultitaskModel(Bert(replace(TINY, **rates, **changes)), both(documents), Streams(0), dropout=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def both(documents: Documents) -> list[Task]:
    return [
        Task("mlm", MLM, {"train": masked(documents, room=30, share=0.4)}, head_names=MLM_HEAD),
        Task("nsp", NSP, {"train": pairs(documents, room=30)}, "cross_encoder", head_names=NSP_HEAD),
    ]


def padded(batch: Batch) -> dict[str, Tensor]:
    """A batch as transformers takes it; what is not to be predicted is -100."""
    shape = len(batch), batch.longest + 2
    inputs = {name: torch.zeros(shape, dtype=torch.int64) for name in ("input_ids", "token_type_ids", "attention_mask")}
    place = batch.sequence_of, batch.positions
    inputs["input_ids"][place], inputs["token_type_ids"][place] = batch.tokens, batch.segments
    inputs["attention_mask"][place] = 1
    inputs["labels"] = batch.labels
    if batch.targets is not None:
        inputs["labels"] = torch.full(shape, -100)
        inputs["labels"][batch.sequence_of[batch.targets], batch.positions[batch.targets]] = batch.labels
    return inputs


def by_transformers(kind: str, folder: Path) -> Any:
    """The model of this class in evaluation mode; every tensor is the folder's."""
    transformers = pytest.importorskip("transformers")
    found, report = getattr(transformers, kind).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    return found.eval()


def gradients(model: MultitaskModel, task: Task, parts: Sequence[Batch]) -> Tensor:
    """The loss of a batch in parts; its gradient is left in the model."""
    hook = compose({}, Defaults([task], Stage("domain", [task.name])), Streams(0)).hook
    model.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    update = Update(Passes(model, hook, Streams(0)), optimizer, [(task, parts)])
    update.compute()
    return update.losses[task.name]["task"]


def same_gradients(model: MultitaskModel, name: str, names: Mapping[str, str], theirs: torch.nn.Module) -> None:
    """AssertionError where a gradient of head or encoder differs; spends the weights."""
    wanted = {key: each.grad for key, each in theirs.named_parameters() if each.grad is not None}
    head = {names[key]: each.grad for key, each in model.heads[name].named_parameters()}
    found = gradients_by_their_names(SimpleNamespace(model=model))  # type: ignore[arg-type]
    found = {f"bert.{key}": tensor for key, tensor in found.items()} | head
    assert wanted.keys() <= found.keys()
    assert len(wanted) >= len(list(model.encoder.parameters())) - 2 + len(head)  # masked words need no pooler
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient, **CLOSE, msg=(key + ": {}").format)


CUTS = pytest.mark.parametrize("cuts", [[0, 9], [0, 1, 4, 9]], ids=["whole", "in micro-batches"])


@CUTS
@pytest.mark.parametrize("changes", [{}, {"hidden_act": "relu"}, {"hidden_act": "gelu_new", "layer_norm_eps": 0.1}])
@pytest.mark.parametrize(
    ("number", "kind"), [(0, "BertForMaskedLM"), (0, "BertForPreTraining"), (1, "BertForNextSentencePrediction")]
)
def test_loss_logits_and_every_gradient_are_those_of_transformers(
    number: int, kind: str, changes: dict[str, Any], cuts: list[int], tmp_path: Path
) -> None:
    documents = random_documents()
    model, task = heads(documents, **changes), both(documents)[number]
    checkpoint.save(tmp_path / "model", model, tiny_tokenizer())
    theirs = by_transformers(kind, tmp_path / "model")
    examples = task.splits["train"]
    parts = [examples.batch(range(*cut), range(*cut)) for cut in pairwise(cuts)]
    inputs = padded(examples.batch(range(9), range(9)))
    assert len(set(inputs["attention_mask"].sum(1).tolist())) > 3
    labels = inputs.pop("labels")
    answer = theirs(**inputs)
    output = answer.prediction_logits if kind == "BertForPreTraining" else answer.logits
    loss = F.cross_entropy(output.flatten(0, -2), labels.flatten())  # without those that are -100
    loss.backward()
    ours = torch.cat([model.predict(task, part, model.embed(part)) for part in parts]).detach()
    torch.testing.assert_close(ours, output[labels != -100].detach(), **CLOSE)
    torch.testing.assert_close(gradients(model, task, parts), loss.detach(), **CLOSE)
    same_gradients(model, task.name, [MLM_HEAD, NSP_HEAD][number], theirs)


@CUTS
def test_a_real_checkpoint_has_the_loss_and_the_gradients_that_it_has_in_transformers(
    bert_tiny: Path, cuts: list[int]
) -> None:
    random, tokenizer = np.random.default_rng(0), Tokenizer.load(bert_tiny)
    passages = [random.integers(1000, 30000, size).tolist() for size in random.integers(5, 60, 9)]
    texts = MaskedTexts(TokenCache.of([[each] for each in passages]), Words(tokenizer, 30522, 0.15, False), 64)
    task = Task("mlm", MaskedWords(30522), {"train": texts}, head_names=MLM_HEAD)
    model = MultitaskModel(load_encoder(bert_tiny, dropout=0.0), [task], Streams(0))
    assert load_known_heads(bert_tiny, model.heads, model.head_names) == ["mlm"]
    theirs = by_transformers("BertForMaskedLM", bert_tiny)
    loss = theirs(**padded(texts.batch(range(9), range(9)))).loss
    loss.backward()
    parts = [texts.batch(range(*cut), range(*cut)) for cut in pairwise(cuts)]
    torch.testing.assert_close(gradients(model, task, parts), loss.detach(), **CLOSE)
    same_gradients(model, "mlm", MLM_HEAD, theirs)


def test_a_checkpoint_knows_its_heads_again_and_one_without_leaves_them_new(tmp_path: Path) -> None:
    documents = random_documents()
    model, plain = heads(documents), MultitaskModel(heads(documents).encoder, tiny_tasks(), Streams(0))
    checkpoint.save(tmp_path / "both", model, tiny_tokenizer())
    checkpoint.save(tmp_path / "plain", plain, tiny_tokenizer())
    fresh = MultitaskModel(load_encoder(tmp_path / "both"), both(documents), Streams(1))
    before = {name: tensor.clone() for name, tensor in fresh.heads.state_dict().items()}
    assert load_known_heads(tmp_path / "plain", fresh.heads, fresh.head_names) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.heads.state_dict().items())
    assert load_known_heads(tmp_path / "both", fresh.heads, fresh.head_names) == ["mlm", "nsp"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name


def test_the_decoder_is_the_word_embeddings_and_sees_masked_tokens_only(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = random_documents()
    model, task = heads(documents), both(documents)[0]
    assert not [name for name, each in model.heads["mlm"].named_parameters() if each.shape[0] == 97 and each.dim() == 2]
    seen, fed = [], []  # by the decoder, and by the feed-forward network of each layer
    linear = F.linear

    def noted(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.shape == (97, 16):
            seen.append((tuple(hidden.shape), weight.data_ptr()))
        if weight.shape == (32, 16):
            fed.append(len(hidden))
        return linear(hidden, weight, bias)

    monkeypatch.setattr(F, "linear", noted)
    batch = task.splits["train"].batch(range(5), range(5))
    output = model.predict(task, batch, model.embed(batch))
    assert batch.targets is not None
    assert len(batch.targets) < 0.5 * len(batch.tokens)
    assert seen == [((len(batch.targets), 16), model.encoder.word.weight.data_ptr())]
    assert output.shape == (len(batch.targets), 97)
    assert fed == [len(batch.tokens), len(batch.targets)]


# Masks


def likely(times: int, of: int, share: float) -> None:
    """AssertionError where so many are not to be expected of this share; a right version fails once in 10000 times."""
    assert binomtest(int(times), int(of), share).pvalue > 1e-4, f"{times / of} instead of {share}"


def uniform(counts: Sequence[int] | np.ndarray) -> None:
    assert chisquare(np.asarray(counts)).pvalue > 1e-4


def test_a_million_tokens_are_chosen_and_replaced_in_their_shares() -> None:
    chooser, random = words(), np.random.default_rng(0)
    kinds, drawn, places = Counter[str](), np.zeros(TINY.vocab_size, int), np.zeros(126, int)
    chosen_of_special = candidates = 0
    for _ in range(8000):
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
    assert candidates > 900_000
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
    for _ in range(600):
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


# Sequences

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


# Pairs


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


def test_the_passage_of_another_document_is_any_of_theirs() -> None:
    documents = [[[9]] * 3, [[8]] * 2, [[7]] * 5, [[6]]]
    found = pairs(documents)
    for row, mine in [(0, range(3)), (1, range(3, 5)), (2, range(5, 10))]:
        drawn = Counter(found.pair(row, key)[1] for key in range(8000) if found.pair(row, key)[2])
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


# The corpus


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    return write_corpus(tmp_path / "corpus.txt", random_documents(24))


def declared(domain: Domain, given: Sequence[Task] = ()) -> tuple[dict[str, Task], Trainer]:
    """The stage's own tasks by name, of a run of these tasks."""
    trainer = tiny_trainer({"domain": domain}, tasks=given or [tiny_tasks()[0]])
    return {task.name: task for task in trainer.tasks if task.name in domain.names}, trainer


def words_task(name: str, split_texts: Mapping[str, Sequence[Sequence[int]]], pair_mode: Any = None) -> Task:
    """A task of these texts, of which two after another are a pair."""
    together = pair_mode == "cross_encoder"
    splits = {}
    for split, texts in split_texts.items():
        pairs = [[2, *one, 3, *other, 3] for one, other in zip(texts[::2], texts[1::2], strict=False)]
        rows = pairs if together else [[2, *text, 3] for text in texts]
        flat = np.array([token for row in rows for token in row], np.int32)
        offsets = np.cumsum([0, *map(len, rows)])
        sides = 2 if pair_mode == "bi_encoder" else 1
        labels = torch.arange(len(rows) // sides) % 2
        splits[split] = Examples(flat, 0 * flat, offsets, labels, sides)
    return Task(name, Classification(2), splits, pair_mode)  # type: ignore[arg-type]


def everything(task: Task) -> list[tuple[int, ...]]:
    """All sequences of a task's corpus, the trained and the scored, without special tokens."""
    return [tuple(each) for split in task.splits.values() for each in tokens_of(split)]


def test_the_corpus_of_the_tasks_is_the_texts_of_their_training_splits_each_once() -> None:
    one = words_task("one", {"train": [[10, 11], [12], [10, 11]], "dev": [[20]], "test": [[21]]})
    two = words_task("two", {"train": [[30, 31], [10, 11], [32], [33]], "dev": [[22], [23]]}, "cross_encoder")
    three = words_task("three", {"train": [[40, 41], [42], [12], [43]], "dev": [[24], [25]]}, "bi_encoder")
    tasks, _ = declared(Domain("tasks"), [one, two, three])
    wanted = [(10, 11), (12,), (30, 31), (32,), (33,), (40, 41), (42,), (43,)]
    assert sorted(everything(tasks["mlm"])) == wanted
    assert tasks.keys() == {"mlm"}  # texts of their own are no documents


LEAKED = [[70, 71, 72, 73, 74, 75, 76, 77, 78], [80, 81, 82, 83, 84, 85, 86, 87, 88], [90, 91]]


@pytest.mark.parametrize("leaks", ["keep", "drop"])
def test_texts_that_will_be_scored_are_counted_by_task_and_dropped_if_asked(leaks: Any, tmp_path: Path) -> None:
    documents = random_documents(8, longest=4)
    documents[1].insert(1, [*LEAKED[0], 10])  # within a passage
    documents[3].insert(0, LEAKED[1])
    documents[5].append(LEAKED[2])  # short, and a passage of its own
    one = words_task("one", {"train": [[10, 11]], "dev": [LEAKED[0], [30, 31]], "test": [LEAKED[2]]})
    two = words_task("two", {"train": [*documents[6][:2]], "dev": [LEAKED[0], LEAKED[1]]}, "cross_encoder")
    corpus = write_corpus(tmp_path / "corpus.txt", documents)
    tasks, _ = declared(Domain(corpus, leaks=leaks), [one, two])
    notes = " ".join(tasks["mlm"].notes)
    assert "2 of 3 dev and test texts of task one are in the corpus." in notes
    assert "2 of 2 dev and test texts of task two are in the corpus." in notes
    kept = [passage for document in documents for passage in document]
    if leaks == "drop":
        assert "The 3 passages that hold them are dropped." in notes
        kept = [passage for passage in kept if passage[:9] not in LEAKED]
    else:
        assert "They stand in 3 passages, which are kept; domain:leaks=drop drops them." in notes
    found = [token for sequence in everything(tasks["mlm"]) for token in sequence]
    assert Counter(found) == Counter(token for passage in kept for token in passage)


def test_a_corpus_without_leaks_has_none_to_tell_of(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt", random_documents(8))
    tasks, _ = declared(Domain(corpus, leaks="drop"), [words_task("one", {"train": [[10]], "dev": [LEAKED[0]]})])
    assert not [note for note in tasks["mlm"].notes if "dev" in note or "drop" in note]


def test_the_options_reach_what_they_are_of(corpus: str) -> None:
    tasks, trainer = declared(Domain(corpus, mask=0.5, whole_words=True, batch_size=7, length=20, held_out=4, epochs=3))
    for part in tasks["mlm"].splits.values():
        assert isinstance(part, MaskedTexts)
        assert (part.words.share, part.words.whole, part.words.count, part.room) == (0.5, True, TINY.vocab_size, 20)
    assert [task.batch_size for task in tasks.values()] == [7, 7]
    assert [tasks["nsp"].objective.text(label) for label in (0, 1)] == ["follows", "from_another_document"]
    ((stage, _), _) = stages_of(trainer)
    assert (stage.name, stage.epochs, stage.steps, stage.learning_rate) == ("domain", 3, None, 5e-5)


def test_no_sequence_is_longer_than_the_encoder_reads_or_the_option_says(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt", random_documents(20, longest=60))
    for length, room in [(128, 32), (20, 20)]:
        tasks, _ = declared(Domain(corpus, length=length, held_out=4))
        for task in tasks.values():
            train = task.splits["train"]
            assert max(train.lengths()) == max(train.batch(range(len(train)), range(len(train))).lengths) == room


@pytest.mark.parametrize("nsp", [None, True, False])
def test_next_passages_are_a_task_where_they_can_be_unless_told_otherwise(nsp: bool | None, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt", [*random_documents(8), [[10]]])
    tasks, _ = declared(Domain(corpus, nsp=nsp, held_out=3))
    assert list(tasks) == (["mlm"] if nsp is False else ["mlm", "nsp"])
    if nsp is not False:
        assert list(tasks["nsp"].notes) == ["1 of 9 documents have no two passages, and give no pair."]


def test_a_small_corpus_has_pairs_to_score_without_further_options(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt", random_documents(12))
    tasks, _ = declared(Domain(corpus))
    assert list(tasks) == ["mlm", "nsp"]
    assert list(declared(Domain(corpus, nsp=True))[0]) == ["mlm", "nsp"]


# The stage


def domain(corpus: str, **options: Any) -> Domain:
    return Domain(corpus, **{"steps": STEPS, "batch_size": 4, "held_out": 4, "learning_rate": 1e-2, **options})


class Watch:
    """An observer of stages, tasks and terms of the updates, and of the weights when fine-tuning begins."""

    trainer: Trainer

    def __init__(self) -> None:
        self.steps: list[tuple[str, tuple[str, ...]]] = []  # of each update, its stage and its tasks
        self.terms: dict[str, set[str]] = {}
        self.rates: dict[str, list[float]] = {}
        self.scores: dict[str, list[dict[str, Any]]] = {}
        self.weights: dict[str, Tensor] = {}

    @hookimpl(trylast=True)
    def prepare(self, stage: Stage, model: MultitaskModel) -> None:
        if stage.name == "finetune":
            self.weights = {name: each.detach().clone() for name, each in model.named_parameters()}

    @hookimpl(trylast=True)
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.rates.setdefault(str(self.trainer.streams.place[0]), []).append(optimizer.param_groups[0]["lr"])

    @hookimpl(trylast=True)
    def after_step(self, losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        stage = str(self.trainer.streams.place[0])
        self.steps.append((stage, tuple(losses)))
        for found in losses.values():
            self.terms.setdefault(stage, set()).update(found.keys() - {"rdrop second"})

    @hookimpl(trylast=True)
    def evaluated(self, stage: Stage, scores: Mapping[str, Any]) -> None:
        self.scores.setdefault(stage.name, []).append(dict(scores))


def watched(plugins: Mapping[str, Any], **options: Any) -> tuple[Watch, Trainer]:
    watch = Watch()
    watch.trainer = tiny_trainer(plugins, tasks=tiny_tasks()[:2], steps=FEW, observers=[watch], **options)
    watch.trainer.train()
    return watch, watch.trainer


def test_the_stage_comes_before_fine_tuning_and_has_its_own_tasks_and_learning_rate(corpus: str) -> None:
    watch, trainer = watched({"domain": domain(corpus)})
    assert [stage for stage, _ in watch.steps] == ["domain"] * STEPS + ["finetune"] * FEW
    assert {name for stage, names in watch.steps if stage == "domain" for name in names} == {"mlm", "nsp"}
    assert not {name for stage, names in watch.steps if stage == "finetune" for name in names} & {"mlm", "nsp"}
    assert [stage.learning_rate for stage, _ in stages_of(trainer)] == [1e-2, 1e-2]
    other, _ = watched({"domain": domain(corpus, learning_rate=2e-2)})
    assert other.rates["domain"] == [2 * rate for rate in watch.rates["domain"]]
    assert other.rates["finetune"] == watch.rates["finetune"]


def test_masked_words_and_pairs_are_scored_before_and_after_each_epoch(corpus: str) -> None:
    watch, trainer = watched({"domain": domain(corpus, steps=None, epochs=2)})
    (stage, tasks), _ = stages_of(trainer)
    epoch, total = trainer.length(stage, tasks)
    assert total == 2 * epoch == 2 * sum(task.batches for task in tasks)
    assert len(watch.scores["domain"]) == 3
    for scores in watch.scores["domain"]:
        assert scores["mlm"].keys() == {"accuracy", "perplexity", "loss"}
        assert scores["mlm"]["perplexity"] == pytest.approx(np.exp(scores["mlm"]["loss"]))
        assert scores.keys() == {"mlm", "nsp"}


def test_words_are_learned(corpus: str, tmp_path: Path) -> None:
    few = write_corpus(tmp_path / "few.txt", [[[10, 11, 12, 13, 14, 15] for _ in range(4)] for _ in range(12)])
    watch, _ = watched({"domain": domain(few, steps=60)})
    first, *_, last = (scores["mlm"]["loss"] for scores in watch.scores["domain"])
    assert last < 0.6 * first


def test_a_batch_in_micro_batches_gives_the_gradient_of_the_whole_though_their_masked_words_differ(
    corpus: str,
) -> None:
    found = []
    for budget in (10_000, 40):
        trainer = tiny_trainer({"domain": domain(corpus, mask=0.4, batch_size=8)}, dropout=0.0)
        (stage, (task, _)), _ = stages_of(trainer)
        prepare(trainer.hook, trainer.model, stage, [task])
        parts = Feed(task, 0, stage.name).micro_batches(1, budget)
        with trainer.streams.at(stage.name, 0):
            losses = compute(trainer, make_optimizer(trainer.hook, trainer.model, stage), [(task, parts)])
        found.append((losses["mlm"]["task"], parts, trainer))
    (whole, (batch,), one), (summed, parts, other) = found
    assert len({part.predictions / len(part) for part in parts}) > 1
    assert sum(part.predictions for part in parts) == batch.predictions
    torch.testing.assert_close(summed, whole, rtol=1e-5, atol=0)
    for (name, first), second in zip(one.model.named_parameters(), other.model.parameters(), strict=True):
        if first.grad is not None:
            torch.testing.assert_close(second.grad, first.grad, rtol=1e-4, atol=1e-6, msg=(name + ": {}").format)


REGULARIZERS = {
    "smart": lambda: Smart(weight=0.5),
    "rdrop": lambda: RDrop(weight=0.5),
    "r3f": lambda: R3F(weight=0.5),
    "bregman": lambda: Bregman(weight=0.5),
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_regularizer_acts_in_the_stage_where_it_is_named_and_leaves_it_alone_by_default(
    name: str, corpus: str
) -> None:
    make = REGULARIZERS[name]
    without, _ = watched({"domain": domain(corpus)})
    silent, _ = watched({"domain": domain(corpus), name: make()})
    active, _ = watched({"domain": domain(corpus), name: make()}, stages={name: ["domain", "finetune"]})
    only, _ = watched({"domain": domain(corpus), name: make()}, stages={name: ["domain"]})
    for parameter, tensor in without.weights.items():
        assert torch.equal(silent.weights[parameter], tensor), parameter
    assert silent.terms == {"domain": {"task"}, "finetune": {"task", name}}
    assert active.terms == {"domain": {"task", name}, "finetune": {"task", name}}
    assert only.terms == {"domain": {"task", name}, "finetune": {"task"}}
    assert any(not torch.equal(active.weights[parameter], tensor) for parameter, tensor in without.weights.items())
    assert all(torch.equal(active.weights[parameter], tensor) for parameter, tensor in only.weights.items())


def test_a_scheduler_acts_where_it_is_named(corpus: str) -> None:
    plugins = {"domain": domain(corpus), "rrobin": RoundRobin(per_step=2)}
    default, _ = watched(dict(plugins))
    named, _ = watched({"domain": domain(corpus), "rrobin": RoundRobin(per_step=2)}, stages={"rrobin": ["domain"]})
    assert [len(names) for _, names in default.steps] == [1] * STEPS + [2] * FEW
    assert [len(names) for _, names in named.steps] == [2] * STEPS + [1] * FEW


BOTH = ["domain", "finetune"]
RESUMED: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, list[str]], int]] = {
    "alone": (dict, {}, 4),
    "ema, before it begins": (lambda: {"ema": EMA()}, {}, 4),
    "ema, after it began": (lambda: {"ema": EMA()}, {}, 7),
    "ema in both": (lambda: {"ema": EMA()}, {"ema": BOTH}, 7),
    "ema in the stage": (lambda: {"ema": EMA()}, {"ema": ["domain"]}, 4),
    "ema in the stage, over": (lambda: {"ema": EMA()}, {"ema": ["domain"]}, 7),
    "uncertainty": (lambda: {"uncertainty": Uncertainty()}, {}, 4),
    "uncertainty in both": (lambda: {"uncertainty": Uncertainty()}, {"uncertainty": BOTH}, 4),
    "bregman in both": (lambda: {"bregman": Bregman()}, {"bregman": BOTH}, 4),
    "smart in both": (lambda: {"smart": Smart()}, {"smart": BOTH}, 1),
    "domain in its stage": (lambda: {"ema": EMA()}, {"domain": ["domain"]}, 7),
    "domain in fine-tuning": (lambda: {"ema": EMA()}, {"domain": ["finetune"]}, 4),
}


@pytest.mark.parametrize("beside", slow_but(RESUMED, list(RESUMED)[::4]))
def test_a_run_stopped_in_either_stage_resumes_exactly(beside: str, corpus: str) -> None:
    """The stage has five updates, fine-tuning three."""
    make, stages, after = RESUMED[beside]

    def trainer(observers: Sequence[object] = ()) -> Trainer:
        chosen = {"domain": domain(corpus, nsp=False), **make()}
        return tiny_trainer(chosen, tasks=tiny_tasks()[:2], stages=stages, steps=FEW, observers=observers)

    whole = trainer()
    whole.train()
    stop = Stop(after)
    stop.trainer = trainer([stop])
    stop.trainer.train()
    begun = {"domain"} | ({"finetune"} if after > STEPS else set())
    acting = {name for name in make() if begun & set(stages.get(name, ["finetune"]))}
    assert stop.training["plugins"].keys() == acting - {"smart"}  # which has no state
    second = trainer()
    second.model.load_state_dict(stop.model)
    second.state.load(stop.training)
    second.train()
    same_weights(second, whole)


class Stop(Snapshot):
    """A snapshot after so many updates of all stages together."""

    def __init__(self, after: int) -> None:
        super().__init__(after)
        self.done = 0

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        super().after_step(self.done)
        self.done += 1


# A run by the command line


def test_what_a_run_leaves_is_read_by_transformers_and_as_an_encoder_with_its_heads(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    write_tasks(tmp_path / "data")
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"{sentence(n)}.\n{sentence(n + 1)}." for n in range(30)))
    train = ("train", "--data", "data", "--steps", 1, "--batch-size", 4, "--tasks", "mood", "--keep", 9)
    plugins = ("-p", "domain:corpus=corpus.txt,steps=2,batch_size=4", "-p", "smart:stages=domain,finetune")
    ran = regkit(*train, "--encoder", "encoder", *plugins, "--output", "run", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert ran.out.count("its head is new") == 2
    config = tmp_path / "run" / "config.toml"
    assert tomllib.loads(config.read_text())["plugins"]["smart"] == {"stages": ["domain", "finetune"]}
    again = regkit("train", config, "--dry-run", cwd=tmp_path)
    assert re.search(r"plugin smart.*, in domain and finetune\n", again.out)
    assert "step of mlm, nsp: loss = task + 1 x smart" in again.out
    for stage in ("domain-2", "finetune-1"):
        folder = tmp_path / "run" / "checkpoints" / stage
        ran = regkit(*train, "--encoder", folder, *plugins, "--dry-run", cwd=tmp_path)
        assert ran.out.count("its head is that of the checkpoint") == 2, ran.err
        words, both = (by_transformers(kind, folder) for kind in ("BertForMaskedLM", "BertForPreTraining"))
        assert by_transformers("AutoModelForPreTraining", folder).config.architectures == ["BertForPreTraining"]
        experiment = Experiment.build(
            Settings.checked(Settings.read(config).model_dump() | {"encoder": str(folder)}, "")
        )
        model, tasks = experiment.model.eval(), {task.name: task for task in experiment.tasks}
        for task in (tasks["mlm"], tasks["nsp"]):
            batch = task.splits["dev"].batch([0, 1])
            inputs = padded(batch)
            labels = inputs.pop("labels")
            found = both(**inputs)
            ours = model.predict(task, batch, model.embed(batch))
            if task.name == "nsp":
                torch.testing.assert_close(ours, found.seq_relationship_logits, **CLOSE)
            else:
                torch.testing.assert_close(ours, found.prediction_logits[labels != -100], **CLOSE)
                torch.testing.assert_close(ours, words(**inputs).logits[labels != -100], **CLOSE)


def test_the_tasks_of_no_data_cannot_be_read() -> None:
    with pytest.raises(
        PluginError, match=r"'domain' has no tasks whose texts it could read; name a corpus, or --data\."
    ):
        tiny_trainer({"domain": Domain("tasks")}, tasks=[])
