"""Tokenizer parts: what fills the memory, never ends or panics is refused before a text is read."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from regkit.base.errors import EncoderError
from regkit.model.tokenizer import Tokenizer
from regkit.model.tokenizer_classes import BERT
from regkit.model.tokenizer_parts import check_charsmap, library_errors
from tests.model.test_tokenizer_files import charsmap

WORDS = {word: number for number, word in enumerate([*BERT.values(), "the", "a"])}


def load(folder: Path, **parts: Any) -> Tokenizer:
    """A tokenizer.json of these parts, read as it is."""
    model = {"type": "WordPiece", "unk_token": "[UNK]", "vocab": WORDS, "continuing_subword_prefix": "##"}
    model |= {"max_input_chars_per_word": 100}
    whole = {"version": "1.0", "model": model, "added_tokens": [], "normalizer": None, "pre_tokenizer": None}
    (folder / "tokenizer.json").write_text(json.dumps(whole | {"post_processor": None, "decoder": None} | parts))
    (folder / "tokenizer_config.json").write_text(json.dumps(BERT | {"tokenizer_class": "TokenizersBackend"}))
    return Tokenizer.load(folder)


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*parts: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(parts)}


def precompiled(data: bytes) -> dict[str, Any]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"normalizer": {"type": "Magic"}}, "has the normalizer Magic; regkit reads BertNormalizer, "),
        ({"normalizer": {"lowercase": True}}, "has the normalizer None; "),
        ({"normalizer": "Lowercase"}, "has the normalizer None; "),
        ({"pre_tokenizer": {"type": "Magic"}}, "has the pre_tokenizer Magic; regkit reads BertPreTokenizer, "),
        ({"normalizer": replace({"Regex": "(a+)+$"}, "")}, r"has the regular expression \(a\+\)\+\$, which may"),
        ({"normalizer": sequence(sequence(replace({"Regex": "(a+)+$"}, "")))}, "has the regular expression"),
        ({"normalizer": replace({"String": "a"}, "aa")}, "replaces a text by a longer one"),
        ({"normalizer": replace({"String": ""}, "a")}, "replaces a text by a longer one"),
        ({"normalizer": replace({"String": "a"}, "\ufdfa")}, "replaces a text by a longer one"),  # NFKD: 18 letters
        ({"normalizer": replace({"Regex": " {2,}"}, "  ")}, "replaces a text by a longer one"),
        ({"normalizer": sequence(*[{"type": "ByteLevel"}] * 2)}, "ByteLevel may stand there only once"),
        ({"normalizer": sequence(*[{"type": "NFC"}] * 40)}, "has 40 parts in its normalizer; 32 are the most"),
        ({"normalizer": {"type": "Prepend", "prepend": "a" * 9}}, "prepends more than 8 characters"),
        ({"normalizer": precompiled(b"")}, "the precompiled map of characters is damaged"),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a|a)*b"}, "behavior": "Isolated", "invert": False}}, "has the regular expression"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}}, r"cuts words at random \(dropout is 0.1\)"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": None}}, r"no word for unknown ones \(unk_id\)"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]"}}, "has no .UNK., the word for"),
    ],
)  # fmt: skip
def test_a_part_that_could_harm_is_refused_by_name(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(EncoderError, match=said) as caught:
        load(tmp_path, **parts)
    assert str(tmp_path / "tokenizer.json") in str(caught.value)


def test_known_expressions_and_plain_replacements_are_read(tmp_path: Path) -> None:
    parts = [replace({"Regex": " {2,}"}, " "), replace({"String": " "}, "▁"), precompiled(charsmap())]
    assert load(tmp_path, normalizer=sequence(*parts)).backend.normalizer.normalize_str("a   ß") == "a▁ss"


@pytest.mark.parametrize(
    ("place", "unit"),
    [(0, 1 << 31 - 2), (256 ^ 0xC3, (1 << 21) - 1 << 10 | 0xC3), (768, 1 << 31 | 40), (768, 1 << 31 | 1)],
)
def test_a_damaged_map_of_characters_is_refused_where_the_library_would_panic(place: int, unit: int) -> None:
    units = bytearray(charsmap().replace(b"ss\0", "ö\0".encode()))
    units[4 + 4 * place : 8 + 4 * place] = unit.to_bytes(4, "little")
    with pytest.raises(ValueError, match="the precompiled map of characters"):
        check_charsmap(bytes(units))


def test_a_map_of_characters_that_ends_too_early_for_some_byte_is_refused() -> None:
    whole = charsmap()
    with pytest.raises(ValueError, match="the precompiled map of characters is damaged"):
        check_charsmap((4 * 1000).to_bytes(4, "little") + whole[4:4004] + whole[-3:])


def test_a_map_of_characters_to_long_texts_is_refused() -> None:
    check_charsmap(charsmap())
    with pytest.raises(ValueError, match="texts of more than 100 bytes"):
        check_charsmap(charsmap().replace(b"ss\0", b"s" * 101 + b"\0"))


def test_a_panic_of_the_library_is_an_error_in_a_sentence_and_an_interrupt_is_none() -> None:
    panic = type("PanicException", (BaseException,), {})
    with (
        pytest.raises(EncoderError, match=r"^the tokenizer failed: index out of bounds\.$"),
        library_errors("the tokenizer failed"),
    ):
        raise panic("index out of bounds")
    with pytest.raises(KeyboardInterrupt), library_errors("the tokenizer failed"):
        raise KeyboardInterrupt
