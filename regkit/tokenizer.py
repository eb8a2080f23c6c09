"""Tokenizer: texts to WordPiece ids, by the `tokenizers` library, from a checkpoint folder's own files."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from regkit.errors import EncoderError


class Tokenizer:
    """WordPiece ids of a text without special tokens, and the ids of [CLS], [SEP], [MASK] and [PAD]."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.backend.no_padding()  # a checkpoint's file may carry both
        self.backend.no_truncation()
        self.cls, self.sep = self._special("[CLS]"), self._special("[SEP]")
        self._special("[UNK]")  # without it, a text with a new character is an error

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read tokenizer.json, or else vocab.txt; EncoderError where neither can be read."""
        whole, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
        try:
            if whole.exists():
                return cls(Backend.from_file(str(whole)))
            if vocabulary.exists():
                return cls(_from_vocabulary(vocabulary, _lowercase(folder)))
        except EncoderError:
            raise
        except Exception as error:  # the library raises bare Exception
            path = whole if whole.exists() else vocabulary
            raise EncoderError(f"{path} cannot be read as a tokenizer: {error}") from None
        raise EncoderError(f"{folder} has no tokenizer: neither tokenizer.json nor vocab.txt is there.")

    def __len__(self) -> int:
        """One more than the highest id."""
        return max(self.backend.get_vocab().values()) + 1

    @property
    def mask(self) -> int:
        """The id of [MASK]."""
        return self._special("[MASK]")

    def vocabulary(self) -> dict[str, int]:
        """The id of every word."""
        return dict(self.backend.get_vocab())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens; one call for many texts is many times faster than many calls."""
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, and the tokenizer_config.json that transformers looks for."""
        self.backend.save(str(folder / "tokenizer.json"))
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


def _lowercase(folder: Path) -> bool:
    path = folder / "tokenizer_config.json"
    if not path.exists():
        return True
    try:
        return bool(json.loads(path.read_text(encoding="utf8")).get("do_lower_case", True))
    except (ValueError, AttributeError) as error:  # no JSON, or no object
        raise EncoderError(f"{path} cannot be read: {error}.") from None


def _from_vocabulary(path: Path, lowercase: bool) -> Backend:
    words = path.read_text(encoding="utf8").removesuffix("\n").split("\n")  # splitlines also cuts at U+2028
    backend = Backend(WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend
