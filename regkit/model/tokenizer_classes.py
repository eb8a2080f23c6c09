"""Tokenizer classes: build a tokenizer as transformers' classes do, from a vocabulary and settings.

A class of transformers such as BertTokenizer takes only the vocabulary from a folder's files. It makes the rest itself,
even where a tokenizer.json says otherwise.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.processors import TemplateProcessing

from regkit.base.errors import EncoderError, short

Names = Mapping[str, str]
ROLES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)  # added in this order
BERT = dict(zip(ROLES[2:], ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"), strict=True))
ROBERTA = dict(zip(ROLES, ("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"), strict=True))
DEBERTA = BERT | {"bos_token": "[CLS]", "eos_token": "[SEP]"}
ALBERT = DEBERTA | {"unk_token": "<unk>", "pad_token": "<pad>"}


@dataclass(frozen=True)
class Vocabulary:
    """What a folder's files say of the vocabulary."""

    words: Any  # the numbers of words; of a Unigram model, its words with their scores in order
    merges: Sequence[tuple[str, str]] = ()
    charsmap: bytes | None = None  # SentencePiece's map of characters


class Options:
    """A folder's settings, each checked when it is asked for."""

    def __init__(self, source: Path, values: Mapping[str, Any], names: Names) -> None:
        self.source, self.values, self.names = source, values, names  # source: the file with the vocabulary

    def flag(self, name: str, default: bool | None) -> Any:
        """Return true or false, or None if that is the default. Raises EncoderError for anything else."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or value is default:
            return value
        raise self._wrong(name, "true or false")

    def number(self, name: str, default: int) -> int:
        """Return a whole number. Raises EncoderError for anything else."""
        value = self.values.get(name, default)
        if isinstance(value, int):
            return value
        raise self._wrong(name, "a whole number")

    def _wrong(self, name: str, needed: str) -> EncoderError:
        where, value = self.source.parent / "tokenizer_config.json", short(json.dumps(self.values[name]))
        return EncoderError(f"{where}: {name} is {value}; {needed} is needed.")


Build = Callable[[Vocabulary, Options], Backend]


@dataclass(frozen=True)
class TokenizerClass:
    """One class of transformers: what it makes of a vocabulary and of settings."""

    model: str  # the type of the model in tokenizer.json
    names: Names  # of the special tokens, by role
    build: Build
    files: tuple[str, ...] = ()  # from which the vocabulary is read if there is no tokenizer.json
    ends: tuple[str, str] = ("cls_token", "sep_token")  # the roles of the tokens around a text
    doubled: bool = False  # two separators between the texts of a pair
    extra: tuple[str, ...] = ()  # special tokens without a role
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")


def _word_piece(vocabulary: Vocabulary, options: Options) -> Backend:
    unknown = options.names["unk_token"]
    if unknown not in vocabulary.words:
        raise EncoderError(f"{options.source}: the vocabulary has no {unknown}, the word for unknown ones.")
    backend = Backend(WordPiece(vocabulary.words, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=options.flag("do_lower_case", True),
        strip_accents=options.flag("strip_accents", None),
        handle_chinese_chars=options.flag("tokenize_chinese_chars", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def _byte_level(vocabulary: Vocabulary, options: Options) -> Backend:
    model = BPE(vocabulary.words, list(vocabulary.merges), continuing_subword_prefix="", end_of_word_suffix="")
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=options.flag("add_prefix_space", False))
    backend.decoder = decoders.ByteLevel()
    return backend


def _unigram(vocabulary: Vocabulary, options: Options, *, unknown: int | None) -> Backend:
    """Build XLM-R's tokenizer, or CamemBERT's, which looks for the unknown word by its name."""
    if unknown is None:
        words = [word for word, _ in vocabulary.words]
        unknown = words.index(options.names["unk_token"]) if options.names["unk_token"] in words else 0
    backend = Backend(Unigram(vocabulary.words, unk_id=unknown, byte_fallback=False))
    if vocabulary.charsmap is not None:
        backend.normalizer = normalizers.Precompiled(vocabulary.charsmap)
    scheme = "always" if options.flag("add_prefix_space", True) else "never"
    space = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space])
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return backend


def _albert(vocabulary: Vocabulary, options: Options) -> Backend:
    backend = _unigram(vocabulary, options, unknown=1)
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not options.flag("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if options.flag("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    if vocabulary.charsmap is not None:
        steps.append(normalizers.Precompiled(vocabulary.charsmap))
    backend.normalizer = normalizers.Sequence(steps)
    return backend


def _deberta_v2(vocabulary: Vocabulary, options: Options) -> Backend:
    words, unknown = vocabulary.words, (options.names["unk_token"], 0.0)
    number = words.index(unknown) if unknown in words else options.number("unk_id", 1)
    backend = Backend(Unigram(words, unk_id=number, byte_fallback=False))
    lower = [normalizers.Lowercase()] if options.flag("do_lower_case", False) else []
    spaces = [normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "), normalizers.NFC(), normalizers.Strip(left=False)]
    backend.normalizer = normalizers.Sequence([*lower, *spaces])
    scheme = "always" if options.flag("add_prefix_space", True) else "first"
    apart = [pre_tokenizers.Punctuation("isolated")] if options.flag("split_by_punct", False) else []
    backend.pre_tokenizer = pre_tokenizers.Sequence([*apart, pre_tokenizers.Metaspace(prepend_scheme=scheme)])
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return backend


def template(backend: Backend, first: str, last: str, *, doubled: bool = False) -> TemplateProcessing:
    """Make the template that puts special tokens around a text and the two of a pair.

    doubled: two of the last token stand between the texts of a pair, which then are one segment.
    """
    between, segment = ([f"{last}:0"] * 2, 0) if doubled else ([f"{last}:0"], 1)
    return TemplateProcessing(
        single=[f"{first}:0", "$A:0", f"{last}:0"],
        pair=[f"{first}:0", "$A:0", *between, f"$B:{segment}", f"{last}:{segment}"],
        special_tokens=[(token, backend.token_to_id(token)) for token in dict.fromkeys((first, last))],
    )


SEGMENTS = ("input_ids", "token_type_ids", "attention_mask")
ENDS = ("bos_token", "eos_token")
Bert = TokenizerClass("WordPiece", BERT, _word_piece, ("vocab.txt",), inputs=SEGMENTS)
Roberta = TokenizerClass("BPE", ROBERTA, _byte_level, ("vocab.json", "merges.txt"), doubled=True)
CLASSES = {
    "BertTokenizer": Bert,
    "ElectraTokenizer": Bert,
    "MobileBertTokenizer": Bert,
    "SqueezeBertTokenizer": Bert,
    "DistilBertTokenizer": TokenizerClass("WordPiece", BERT, _word_piece, ("vocab.txt",)),
    "RobertaTokenizer": Roberta,
    "LongformerTokenizer": Roberta,
    "DebertaTokenizer": TokenizerClass(
        "BPE", DEBERTA, _byte_level, ("vocab.json", "merges.txt"), doubled=True, inputs=SEGMENTS
    ),
    "XLMRobertaTokenizer": TokenizerClass("Unigram", ROBERTA, partial(_unigram, unknown=3), ends=ENDS, doubled=True),
    "CamembertTokenizer": TokenizerClass(
        "Unigram",
        ROBERTA,
        partial(_unigram, unknown=None),
        ends=ENDS,
        doubled=True,
        extra=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    ),
    "AlbertTokenizer": TokenizerClass("Unigram", ALBERT, _albert),
    "DebertaV2Tokenizer": TokenizerClass("Unigram", DEBERTA, _deberta_v2, inputs=SEGMENTS),
    "MPNetTokenizer": TokenizerClass(
        "WordPiece", ROBERTA | {"unk_token": "[UNK]"}, _word_piece, ("vocab.txt",), doubled=True
    ),
}
AS_IT_IS = ("PreTrainedTokenizer", "TokenizersBackend")  # take tokenizer.json as it is

# The classes that transformers takes where a folder names none, by the model_type of config.json.
TYPES = {
    **dict.fromkeys(("bert", "ernie", "distilbert", "electra", "mobilebert", "convbert"), "BertTokenizer"),
    **dict.fromkeys(("megatron-bert", "nomic_bert", "squeezebert"), "BertTokenizer"),
    **dict.fromkeys(("roberta", "roberta-prelayernorm", "longformer"), "RobertaTokenizer"),
    **dict.fromkeys(("xlm-roberta", "jina_embeddings_v3"), "XLMRobertaTokenizer"),
    "camembert": "CamembertTokenizer",
    "albert": "AlbertTokenizer",
    "deberta": "DebertaTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "mpnet": "MPNetTokenizer",
    **dict.fromkeys(("eurobert", "ultrabert"), "TokenizersBackend"),
}
ALWAYS_AS_IT_IS = {"modernbert", "modernbert-decoder", "xlm-roberta-xl"}  # whatever class the folder names
