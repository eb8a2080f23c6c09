"""Tokenizer: turn texts into WordPiece ids, with a checkpoint folder's own files.

The `tokenizers` library does the work.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from regkit.base.errors import EncoderError
from regkit.base.files import read_json, read_text

# The parts of BERT's tokenizers. Others replace text by patterns, and some of those take all memory or never end.
NORMALIZERS = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Sequence", "Strip", "StripAccents"}
PRE_TOKENIZERS = {"BertPreTokenizer", "Digits", "Punctuation", "Sequence", "Whitespace", "WhitespaceSplit"}


class Tokenizer:
    """The WordPiece ids of texts, without special tokens, and the ids of [CLS], [SEP] and [MASK]."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.backend.no_padding()  # a checkpoint's file may ask for padding and truncation
        self.backend.no_truncation()
        self.cls, self.sep = self._special("[CLS]"), self._special("[SEP]")
        self._special("[UNK]")  # without it, a text with a new character is an error

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read tokenizer.json or, if there is none, vocab.txt. Raises EncoderError if it cannot be read."""
        whole, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
        try:
            if whole.exists():
                return cls(_from_json(whole))
            if vocabulary.exists():
                return cls(_from_vocabulary(vocabulary, _lowercase(folder)))
        except EncoderError:
            raise
        except Exception as error:  # the library raises bare Exception
            path = whole if whole.exists() else vocabulary
            raise EncoderError(f"{path} cannot be read as a tokenizer: {error}.") from None
        raise EncoderError(f"{folder} has no tokenizer: neither tokenizer.json nor vocab.txt is there.")

    def __len__(self) -> int:
        """Return one more than the highest id: the number of embeddings that are needed."""
        return max(self.backend.get_vocab().values()) + 1

    @property
    def mask(self) -> int:
        """The id of [MASK]."""
        return self._special("[MASK]")

    def vocabulary(self) -> dict[str, int]:
        """Map every word to its id."""
        return dict(self.backend.get_vocab())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Turn each text into ids, without special tokens.

        One call for many texts is many times faster than many calls.
        """
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, and the tokenizer_config.json that transformers looks for."""
        try:
            self.backend.save(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare Exception, for a full disk as well
            raise OSError(str(error)) from error
        config: dict[str, object] = {
            "tokenizer_class": "BertTokenizer",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
        }
        config |= {"unk_token": "[UNK]", "mask_token": "[MASK]"}
        normalizer = self.backend.normalizer  # transformers builds its own from this file, not from tokenizer.json
        if isinstance(normalizer, BertNormalizer):
            config |= {"do_lower_case": normalizer.lowercase, "strip_accents": normalizer.strip_accents}
            config["tokenize_chinese_chars"] = normalizer.handle_chinese_chars
        text = json.dumps(config, indent=2)
        (folder / "tokenizer_config.json").write_text(text, encoding="utf8")

    def _special(self, token: str) -> int:
        number = self.backend.token_to_id(token)
        if number is None:
            raise EncoderError(f"the tokenizer has no {token}; minBERT needs a BERT vocabulary.")
        return int(number)


def _from_json(path: Path) -> Backend:
    content = read_json(path)
    model = content["model"]
    if model.get("type", "WordPiece") != "WordPiece" or model["unk_token"] not in model["vocab"]:
        raise EncoderError(
            f"{path} is not a WordPiece tokenizer with its unknown token in the vocabulary; minBERT needs a BERT vocabulary."
        )
    for part, known in {"normalizer": NORMALIZERS, "pre_tokenizer": PRE_TOKENIZERS}.items():
        if unknown := [kind for kind in _types(content.get(part)) if kind not in known]:
            raise EncoderError(f"{path} has the {part} {unknown[0]}; minBERT reads {', '.join(sorted(known))}.")
    return Backend.from_str(json.dumps(content))  # not the file, where a key may stand twice: readers differ


def _types(part: Any) -> Iterator[object]:
    """List the types of a part of a tokenizer and of all parts within it."""
    if isinstance(part, dict):
        yield part.get("type")
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _types(each)


def _lowercase(folder: Path) -> bool:
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return True
    try:
        return bool(read_json(path).get("do_lower_case", True))
    except (ValueError, AttributeError) as error:  # not JSON, or not an object
        raise EncoderError(f"{path} cannot be read: {error}.") from None


def _from_vocabulary(path: Path, lowercase: bool) -> Backend:
    words = read_text(path).removesuffix("\n").split("\n")  # splitlines also cuts at U+2028
    backend = Backend(WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend
