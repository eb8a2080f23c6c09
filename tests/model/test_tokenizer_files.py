"""Tokenizer files: each form of tokenizer gives transformers' ids, and is saved so that transformers gives them again."""

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.processors import BertProcessing, TemplateProcessing

from regkit.base.errors import EncoderError
from regkit.model.tokenizer import Tokenizer
from regkit.model.tokenizer_classes import BERT, DEBERTA, ROBERTA

TRAINED = [
    "the cat is happy",
    "The Dog isn't sad, it's 42 years old!",
    "café naïve Übung",
    "我爱你 東京",
    "مرحبا",
    "😀👍🏽",
] * 3
PIECES = [
    "the ",
    "Cat",
    " is",
    "n't",
    "café",
    "CAFE\u0301",
    "Ünï",
    "ﬁne",
    "我爱",
    "東京",
    "مرحبا",
    "👩\u200d👩\u200d👧",
    "👍🏽",
    "\u200b",
]
PIECES += [
    "\x00",
    "\x07",
    "\t",
    "\n",
    "\r\n",
    "  ",
    " ",
    "   ",
    "\u2028",
    "\xa0",
    "\u3000",
    "\ufffd",
    "\xad",
    "x" * 250,
    "``",
    "''",
    "½",
]
PIECES += [
    "[MASK]",
    "[SEP]",
    "[CLS]",
    "<s>",
    "</s>",
    "<mask>",
    "<pad>",
    "[unk]",
    "[UNK]",
    "<S>",
    "<url>",
    "<URL>",
    "<new>",
    "İ",
    "ß",
    ".",
    ",",
    "▁",
    "Ġ",
    "##",
]


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts of all that is odd, and the empty one."""
    draw = random.Random(seed)
    return ["", " ", *("".join(draw.choices(PIECES, k=draw.randint(1, 8))) for _ in range(count))]


def word_piece() -> Any:
    backend = Backend(WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(TRAINED, trainers.WordPieceTrainer(vocab_size=120, special_tokens=list(BERT.values())))
    return backend


def byte_level(names: Any) -> Any:
    backend = Backend(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = list(dict.fromkeys(names.values()))
    backend.train_from_iterator(
        TRAINED, trainers.BpeTrainer(vocab_size=340, special_tokens=special, initial_alphabet=alphabet)
    )
    return backend


def unigram(special: list[str], unknown: str) -> Any:
    backend = Backend(Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.train_from_iterator(
        TRAINED, trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token=unknown)
    )
    return backend


def charsmap() -> bytes:
    """SentencePiece's map of one character, `ß` to `ss`: a trie with a node for each of its two bytes, and a leaf."""
    first, second = "ß".encode()
    units = [0] * 1024
    units[0] = 256 << 10  # the root's children are at 256 ^ byte
    units[256 ^ first] = (((256 ^ first) ^ 512) << 10) | first
    units[512 ^ second] = (((512 ^ second) ^ 768) << 10) | 1 << 8 | second
    units[768] = 1 << 31 | 0
    return (4 * len(units)).to_bytes(4, "little") + b"".join(unit.to_bytes(4, "little") for unit in units) + b"ss\0"


def write(folder: Path, kind: str, backend: Any = None, config: Any = None, files: Any = ()) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    if backend is not None:
        backend.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    for name, content in dict(files).items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf8")


def vocabulary(backend: Any, end: str = "\n") -> str:
    words = backend.get_vocab()
    return "\n".join(sorted(words, key=words.get)) + end


def vocab_and_merges(backend: Any) -> dict[str, Any]:
    merges = json.loads(backend.to_str())["model"]["merges"]
    return {
        "vocab.json": backend.get_vocab(),
        "merges.txt": "#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n",
    }


def bert(folder: Path, kind: str = "bert", more: Any = (), end: str = "\n", files: Any = (), **config: Any) -> None:
    write(folder, kind, config=config, files={"vocab.txt": vocabulary(word_piece(), end), **dict(files)})


def bert_json(folder: Path, normalizer: Any, **config: Any) -> None:
    backend = word_piece()
    backend.normalizer, backend.post_processor = normalizer, around(backend, "[CLS]", "[SEP]")
    write(folder, "bert", backend, config)


def roberta_files(folder: Path) -> None:
    write(folder, "roberta", files=vocab_and_merges(byte_level(ROBERTA)))


def roberta_json(folder: Path, **config: Any) -> None:
    write(folder, "roberta", byte_level(ROBERTA), config)


def roberta_added(folder: Path) -> None:
    backend = byte_level(ROBERTA)
    backend.add_tokens(["<new>"])
    write(folder, "roberta", backend, files={"added_tokens.json": {"<url>": 0, "café": 400}})


def deberta(folder: Path) -> None:
    write(folder, "deberta", byte_level(DEBERTA), {"tokenizer_class": "DebertaTokenizerFast"})


def around(backend: Any, first: str, last: str) -> Any:
    """RoBERTa's template for pairs of the two names, as a tokenizer.json has it."""
    numbers = [(word, backend.token_to_id(word)) for word in (first, last)]
    return TemplateProcessing(
        single=[first, "$A", last], pair=[first, "$A", last, last, "$B", last], special_tokens=numbers
    )


def modernbert(folder: Path) -> None:
    backend = byte_level(BERT)
    backend.normalizer = normalizers.NFC()
    backend.post_processor = BertProcessing(*((word, backend.token_to_id(word)) for word in ("[SEP]", "[CLS]")))
    backend.add_special_tokens([AddedToken("[MASK]", lstrip=True)])
    write(folder, "modernbert", backend, {"tokenizer_class": "BertTokenizer", "model_max_length": 8192})


def xlmr(folder: Path, kind: str = "xlm-roberta", unknown: str = "<unk>", **config: Any) -> None:
    backend = unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], unknown)
    backend.normalizer = normalizers.Precompiled(charsmap())
    write(folder, kind, backend, config)


def xlmr_as_it_is(folder: Path) -> None:
    backend = unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<unk>")
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    backend.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap()), spaces])
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.post_processor = around(backend, "<s>", "</s>")
    write(folder, "xlm-roberta", backend, ROBERTA | {"tokenizer_class": "PreTrainedTokenizerFast"})


def metaspace_bpe(folder: Path) -> None:
    """As Gemma's, with spaces replaced by a mark and words split at it."""
    backend = Backend(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Metaspace()
    special = list(dict.fromkeys(ROBERTA.values()))
    backend.train_from_iterator(TRAINED, trainers.BpeTrainer(vocab_size=120, special_tokens=special))
    backend.post_processor = around(backend, "<s>", "</s>")
    write(folder, "modernbert", backend, ROBERTA)


def albert(folder: Path, **config: Any) -> None:
    backend = unigram(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "<unk>")
    write(folder, "albert", backend, config | {"tokenizer_class": "AlbertTokenizer"})


def deberta_v3(folder: Path, **config: Any) -> None:
    backend = unigram(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[UNK]")
    backend.add_special_tokens(["[MASK]"])
    write(folder, "deberta-v2", backend, config)


def mpnet(folder: Path) -> None:
    backend = word_piece()
    words = {
        word.replace("[CLS]", "<s>").replace("[SEP]", "</s>").replace("[MASK]", "<mask>"): n
        for word, n in backend.get_vocab().items()
    }
    write(folder, "mpnet", files={"vocab.txt": "\n".join(sorted(words, key=lambda word: words[word]))})


NEW = {"content": "<new>", "lstrip": True, "rstrip": False, "normalized": True, "single_word": False, "special": False}
URL = NEW | {"content": "<url>", "lstrip": False}
FORMS: dict[str, Callable[[Path], None]] = {
    "bert, vocab.txt alone": bert,
    "bert, cased": lambda folder: bert(folder, do_lower_case=False),
    "bert, cased, accents stripped": lambda folder: bert(folder, do_lower_case=False, strip_accents=True),
    "bert, accents kept": lambda folder: bert(folder, strip_accents=False),
    "bert, Chinese words": lambda folder: bert(folder, tokenize_chinese_chars=False),
    "bert, a blank line at the end": lambda folder: bert(folder, end="\n\n", additional_special_tokens=["<url>"]),
    "bert, Windows": lambda folder: bert(
        folder, end="\r\n", files={"vocab.txt": vocabulary(word_piece()).replace("\n", "\r\n")}
    ),
    "bert, added_tokens.json": lambda folder: bert(folder, files={"added_tokens.json": {"<url>": 121, "<new>": 120}}),
    "bert, added_tokens_decoder": lambda folder: bert(folder, added_tokens_decoder={"121": NEW, "120": URL}),
    "bert, special_tokens_map.json": lambda folder: bert(
        folder, files={"special_tokens_map.json": {"mask_token": URL, "additional_special_tokens": ["<new>"]}}
    ),
    "bert, other names": lambda folder: bert(folder, cls_token="the", sep_token="<url>", image_token="<new>"),
    "bert, names in objects": lambda folder: bert(
        folder, mask_token=NEW | {"__type": "AddedToken"}, extra_special_tokens=["<url>"]
    ),
    "bert, special words split": lambda folder: bert(folder, split_special_tokens=True),
    "bert, extra and additional": lambda folder: bert(
        folder, extra_special_tokens=["<url>"], additional_special_tokens=["<new>"]
    ),
    "bert, a map without flags": lambda folder: bert(
        folder, files={"special_tokens_map.json": {"mask_token": {"content": "<url>"}}}
    ),
    "bert, two new names": lambda folder: bert(folder, mask_token="<new>", bos_token="<url>"),
    "bert, a numbered name": lambda folder: bert(
        folder, extra_special_tokens=["<url>"], files={"added_tokens.json": {"<url>": 120}}
    ),
    "roberta, added_tokens.json beside tokenizer.json": roberta_added,
    "xlm-roberta, other names": lambda folder: xlmr(folder, cls_token="<mask>", sep_token="<pad>"),
    "deberta-v2, a space before the first": lambda folder: deberta_v3(folder, add_prefix_space=False),
    "distilbert": lambda folder: bert(folder, "distilbert", tokenizer_class="DistilBertTokenizer"),
    "electra": lambda folder: bert(folder, "electra", do_lower_case=False),
    "bert, tokenizer.json against tokenizer_config.json": lambda folder: bert_json(
        folder, normalizers.NFD(), do_lower_case=True
    ),
    "bert, tokenizer.json as it is": lambda folder: bert_json(
        folder, normalizers.NFKC(), **BERT, tokenizer_class="PreTrainedTokenizerFast", added_tokens_decoder={"120": NEW}
    ),
    "roberta, vocab.json and merges.txt": roberta_files,
    "roberta": roberta_json,
    "roberta, a space before": lambda folder: roberta_json(
        folder, add_prefix_space=True, mask_token=NEW | {"content": "<mask>", "__type": "AddedToken"}
    ),
    "deberta": deberta,
    "modernbert": modernbert,
    "xlm-roberta": xlmr,
    "xlm-roberta, no space before": lambda folder: xlmr(folder, add_prefix_space=False),
    "xlm-roberta as it is": xlmr_as_it_is,
    "camembert": lambda folder: xlmr(folder, "camembert"),
    "gemma": metaspace_bpe,
    "albert": albert,
    "albert, cased": lambda folder: albert(folder, do_lower_case=False, keep_accents=True),
    "deberta-v3": deberta_v3,
    "deberta-v2, lower": lambda folder: deberta_v3(folder, do_lower_case=True, split_by_punct=True, unk_token="[UNK]"),
    "deberta-v2, the unknown word by its number": lambda folder: deberta_v3(folder, unk_token="[NEW]", unk_id=3),
    "mpnet": mpnet,
}


def theirs(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(folder)


def check(folder: Path, count: int, seed: int = 0) -> None:
    found, wanted, odd = Tokenizer.load(folder), theirs(folder), texts(count, seed)
    assert found.vocabulary() == wanted.get_vocab()
    ids = wanted(odd, add_special_tokens=False)["input_ids"]
    for text, ours, right in zip(odd, found.encode(odd), ids, strict=True):
        assert ours == right, text
    for one, other in pairwise(odd[:60]):
        first, second = found.encode([one, other])
        assert found.join([first])[0] == wanted(one)["input_ids"]
        assert found.join([first, second])[0] == wanted(one, other)["input_ids"]


@pytest.mark.parametrize("form", FORMS)
def test_the_ids_of_texts_and_pairs_are_those_of_transformers(form: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path)
    check(tmp_path, 200)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_ids_of_thousands_of_texts_are_those_of_transformers(form: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path)
    check(tmp_path, 2000, seed=2)


@pytest.mark.parametrize("form", FORMS)
def test_a_saved_tokenizer_is_the_same_to_transformers_and_to_us(form: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path)
    ours, again = Tokenizer.load(tmp_path), tmp_path / "again"
    again.mkdir()
    ours.save(again)
    (again / "config.json").write_bytes((tmp_path / "config.json").read_bytes())
    check(again, 40, seed=1)
    odd, read, wanted = texts(40, seed=1), Tokenizer.load(again), theirs(again)
    assert read.encode(odd) == ours.encode(odd)
    assert (read.around, read.settings, len(read), read.unk) == (ours.around, ours.settings, len(ours), ours.unk)
    roles = {role: name for role, name in ours.settings.items() if role.endswith("_token")}
    assert {role: getattr(wanted, role) for role in roles} == roles
    assert wanted.model_max_length == ours.settings.get("model_max_length", wanted.model_max_length)
    assert wanted.mask_token_id == ours.mask
    assert set(wanted.model_input_names) == set(theirs(tmp_path).model_input_names)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "another class": (
        "bert",
        {"tokenizer_class": "KoBertTokenizer"},
        "has the tokenizer KoBertTokenizer, which regkit does not read; it reads any",
    ),
    "MeCab": ("bert", {"tokenizer_class": "BertJapaneseTokenizer"}, "has the tokenizer BertJapaneseTokenizer, which"),
    "code": ("bert", {"auto_map": {"AutoTokenizer": ["a.B", None]}}, "has auto_map; regkit reads no such tokenizer"),
    "another type": ("rembert", {}, "names no tokenizer for its model_type 'rembert', which regkit does not read"),
    "no SentencePiece": ("xlm-roberta", {}, r"has no tokenizer: tokenizer\.json is not there; AutoTokenizer"),
    "no merges": ("roberta", {}, r"neither tokenizer\.json nor vocab\.json is there"),
    "as it is": ("bert", {"tokenizer_class": "PreTrainedTokenizerFast"}, r"tokenizer\.json is not there"),
    "null": (
        "bert",
        {"do_lower_case": None},
        r"tokenizer_config\.json: do_lower_case is null; true or false is needed",
    ),
    "no flag": ("bert", {"strip_accents": "no"}, 'strip_accents is "no"; true or false is needed'),
    "no number": ("deberta-v2", {"unk_id": "3", "unk_token": "?"}, 'unk_id is "3"; a whole number is needed'),
    "no name": ("bert", {"cls_token": None}, r"tokenizer_config\.json: cls_token is null; a word is needed"),
    "no object": ("bert", {"added_tokens_decoder": {"a": 1}}, r"vocab\.txt cannot be read as a tokenizer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_as_transformers_reads_it_is_refused_in_a_sentence(case: str, tmp_path: Path) -> None:
    kind, config, said = REFUSED[case]
    deberta_v3(tmp_path, **config) if kind == "deberta-v2" else bert(tmp_path, kind, **config)
    with pytest.raises(EncoderError, match=said) as caught:
        Tokenizer.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_model_that_is_not_that_of_its_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "bert", byte_level(BERT))
    with pytest.raises(EncoderError, match=r"tokenizer\.json has a BPE model; its class needs WordPiece\.$"):
        Tokenizer.load(tmp_path)


def test_without_a_template_texts_stand_between_the_named_tokens(tmp_path: Path) -> None:
    backend = byte_level(ROBERTA)
    write(tmp_path, "modernbert", backend)  # and no names: the usual ones are looked for
    found = Tokenizer.load(tmp_path)
    first, last = backend.token_to_id("<s>"), backend.token_to_id("</s>")
    assert found.join([[7], [8]]) == ([first, 7, last, 8, last], 3)
    assert (found.cls, found.sep, found.mask) == (first, last, backend.token_to_id("<mask>"))


def test_a_blank_line_at_the_end_of_a_vocabulary_is_no_word(tmp_path: Path) -> None:
    bert(tmp_path, end="\n\n")
    assert len(Tokenizer.load(tmp_path)) == len(word_piece().get_vocab())
