"""Tokenizer: the ids that transformers gives, whatever files a checkpoint folder has."""

import csv
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordPiece
from tokenizers.processors import TemplateProcessing

from regkit.base.errors import EncoderError
from regkit.model.tokenizer import Tokenizer
from regkit.model.tokenizer_classes import template

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "The", "caf", "##e", "##é", "hello", "Hello", "e", "é", "."]
ODD = ["", " ", "Ünïcode naïve ﬁne", "中文 text 東京", "tab\tand\x00control\u200b\u2028end", "x" * 150, "a" * 99 + " b"]
ODD += ["don't-stop... (really?!)", "emoji 😀👍🏽", "£5.00 ½ ²", "İstanbul STRASSE ß", "\ufffd \xa0 nbsp", "e\u0301 é"]


@pytest.fixture(scope="module")
def texts(course: Path) -> list[str]:
    """Two hundred real texts, and odd ones."""
    found = []
    for name, column in (("ids-sst-dev", "sentence"), ("quora-dev", "sentence1"), ("sts-dev", "sentence2")):
        with (course / f"{name}.csv").open(encoding="utf8", newline="") as file:
            found += [row[column] for row in islice(csv.DictReader(file, delimiter="\t"), 70)]
    return found[:200] + ODD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder with a small cased vocabulary."""
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL + WORDS) + "\n", encoding="utf8")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    return tmp_path


def ids(*words: str) -> list[int]:
    return [(SPECIAL + WORDS).index(word) for word in words]


@pytest.mark.parametrize("encoder", ["bert_tiny", "minilm"])
def test_ids_of_real_texts_are_those_of_transformers(
    encoder: str, request: pytest.FixtureRequest, texts: list[str], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    source = request.getfixturevalue(encoder)
    ours, theirs = Tokenizer.load(source), AutoTokenizer.from_pretrained(source)
    wanted = theirs(texts, add_special_tokens=False)["input_ids"]
    assert ours.encode(texts) == wanted
    assert [ours.encode([text])[0] for text in texts] == wanted
    assert (ours.cls, ours.sep, len(ours)) == (theirs.cls_token_id, theirs.sep_token_id, len(theirs))
    ours.save(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(texts, add_special_tokens=False)["input_ids"] == wanted
    assert again(texts[0], texts[1])["input_ids"] == [ours.cls, *wanted[0], ours.sep, *wanted[1], ours.sep]
    assert Tokenizer.load(tmp_path).encode(texts) == wanted


def test_vocab_txt_alone_gives_the_ids_of_tokenizer_json(minilm: Path, texts: list[str], tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes((minilm / "vocab.txt").read_bytes())
    found, wanted = Tokenizer.load(tmp_path), Tokenizer.load(minilm)
    assert found.encode(texts) == wanted.encode(texts)
    assert (found.cls, found.sep, len(found)) == (wanted.cls, wanted.sep, len(wanted))


def test_case_is_kept_where_the_folder_says_so(folder: Path) -> None:
    assert Tokenizer.load(folder).encode(["The the Café"]) == [ids("The", "the", "[UNK]")]
    assert Tokenizer.load(folder).encode(["Hello café é."]) == [ids("Hello", "caf", "##é", "é", ".")]
    for config in ("{}", '{"do_lower_case": true}'):
        (folder / "tokenizer_config.json").write_text(config)
        assert Tokenizer.load(folder).encode(["Hello Café é."]) == [ids("hello", "caf", "##e", "e", ".")]
    (folder / "tokenizer_config.json").unlink()
    assert Tokenizer.load(folder).encode(["The"]) == [ids("the")]


@pytest.mark.parametrize("cased", [True, False])
def test_a_saved_tokenizer_keeps_its_case_here_and_in_transformers(folder: Path, cased: bool) -> None:
    from transformers import AutoTokenizer

    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": not cased}))
    ours, saved, texts = Tokenizer.load(folder), folder / "saved", ["The Hello café é.", "the nothing"]
    saved.mkdir()
    ours.save(saved)
    wanted = ours.encode(texts)
    assert wanted[0][0] == ids("The" if cased else "the")[0]
    assert Tokenizer.load(saved).encode(texts) == wanted
    theirs = AutoTokenizer.from_pretrained(saved)
    assert theirs(texts, add_special_tokens=False)["input_ids"] == wanted
    assert theirs(texts)["input_ids"] == [[ours.cls, *text, ours.sep] for text in wanted]


def test_a_line_of_the_vocabulary_ends_at_a_newline_and_nowhere_else(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, "\u2028", "\x85", "the"]), encoding="utf8")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.encode(["the"]) == [[7]]
    assert len(tokenizer) == 8


def test_a_vocabulary_with_the_line_ends_of_windows_is_the_same(folder: Path) -> None:
    (folder / "vocab.txt").write_bytes("\r\n".join(SPECIAL + WORDS).encode())
    assert Tokenizer.load(folder).encode(["the café"]) == [ids("the", "caf", "##é")]


def test_truncation_and_padding_of_the_file_are_switched_off(folder: Path) -> None:
    plain = Tokenizer.load(folder)
    plain.save(folder)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=6)
    backend.save(str(folder / "tokenizer.json"))
    assert json.loads((folder / "tokenizer.json").read_text())["truncation"]
    found = Tokenizer.load(folder).encode(["the " * 10, "the"])
    assert [len(text) for text in found] == [10, 1]


def test_nothing_is_added_and_nothing_is_said_of_nothing(folder: Path) -> None:
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.encode([]) == []
    assert tokenizer.encode(["", "the", " "]) == [[], ids("the"), []]
    assert tokenizer.encode(("the",)) == [ids("the")]


def test_the_length_is_one_more_than_the_highest_id(folder: Path) -> None:
    Tokenizer.load(folder).save(folder)
    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf8"))
    whole["model"]["vocab"]["é"] = 50
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    assert len(Tokenizer.load(folder)) == 51


def test_a_vocabulary_without_a_word_for_unknown_ones_is_refused(folder: Path) -> None:
    (folder / "vocab.txt").write_text("[PAD]\n[CLS]\n[SEP]\nthe\n", encoding="utf8")
    with pytest.raises(EncoderError) as caught:
        Tokenizer.load(folder)
    assert str(caught.value) == f"{folder / 'vocab.txt'}: the vocabulary has no [UNK], the word for unknown ones."


def test_special_tokens_have_roles_and_a_missing_one_is_named() -> None:
    backend = Backend(WordPiece({"<s>": 0, "</s>": 1, "?": 2}, unk_token="?"))
    tokenizer = Tokenizer(backend, {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "?"})
    assert (tokenizer.cls, tokenizer.sep, tokenizer.unk, tokenizer.special()) == (0, 1, 2, {0, 1, 2})
    backend.add_special_tokens(["<x>"])
    assert tokenizer.special() == {0, 1, 2, 3}
    assert (tokenizer.around, tokenizer.room(1), tokenizer.room(2)) == ({1: [[0], [1]], 2: [[0], [1], [1]]}, 2, 3)
    with pytest.raises(EncoderError, match=r"^the tokenizer has no mask_token, which is needed here\.$"):
        _ = tokenizer.mask
    with pytest.raises(EncoderError, match=r"^the tokenizer has no <eos>, which is needed here\.$"):
        Tokenizer(Backend(backend.model), {"cls_token": "<s>", "sep_token": "<eos>"})


def test_a_template_that_holds_the_second_text_first_is_refused() -> None:
    backend = Backend(WordPiece({word: number for number, word in enumerate(SPECIAL)}, unk_token="[UNK]"))
    backend.post_processor = TemplateProcessing(single="[CLS] $A", pair="[CLS] $B $A", special_tokens=[("[CLS]", 2)])
    with pytest.raises(EncoderError, match="does not hold each text once, in order"):
        Tokenizer(backend)


@pytest.mark.parametrize("doubled", [False, True])
@given(first=st.lists(st.integers(5, 9), max_size=4), second=st.lists(st.integers(5, 9), max_size=4))
def test_texts_are_taken_out_of_a_sequence_as_they_were_put_in(
    doubled: bool, first: list[int], second: list[int]
) -> None:
    backend = Backend(WordPiece({word: number for number, word in enumerate(SPECIAL)}, unk_token="[UNK]"))
    backend.post_processor = template(backend, "[CLS]", "[SEP]", doubled=doubled)
    tokenizer = Tokenizer(backend)
    sequence, begins = tokenizer.join([first, second])
    assert sequence == [2, *first, 3, *[3] * doubled, *second, 3]
    assert begins == len(sequence) - 1 - len(second)
    assert [part.tolist() for part in tokenizer.split(np.array(sequence), begins)] == [first, second]
    sequence, begins = tokenizer.join([first])
    assert (sequence, begins) == ([2, *first, 3], len(sequence))
    assert [part.tolist() for part in tokenizer.split(np.array(sequence), begins)] == [first]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b""),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\xff"),
        ("vocab.txt", b"\xff\xfe"),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b"[]"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(EncoderError, match=file):
        Tokenizer.load(folder)


def test_a_folder_without_a_tokenizer_says_what_it_looked_for(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(EncoderError, match=r"neither tokenizer\.json nor vocab\.txt"):
            Tokenizer.load(folder)
