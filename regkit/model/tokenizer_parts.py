"""Tokenizer parts: refuse in a stranger's tokenizer.json what could fill the memory or never end."""

import base64
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from regkit.base.errors import EncoderError, short

NORMALIZERS = {"BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled"}
NORMALIZERS |= {"Prepend", "Replace", "Strip", "StripAccents"}
PRE_TOKENIZERS = {"BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation", "Split"}
PRE_TOKENIZERS |= {"UnicodeScripts", "Whitespace", "WhitespaceSplit"}
ONCE = {"ByteLevel", "Precompiled", "Prepend"}  # each makes the text longer, and many make it exponentially longer
MOST = 32  # parts of a normalizer or a pre-tokenizer, each of which reads the whole text
PREFIX = 8  # characters that a normalizer may put before each piece of text
LONGEST = 100  # bytes that may stand for one character; the longest in Unicode's compatibility forms has 33

# Regular expressions of others may take exponential time. These are linear, and each is that of a family of encoders.
SPACES = {" {2,}", r"\s{2,}|[\n\r\t]"}  # XLM-R, DeBERTa-v2
WORDS = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2, and RoBERTa by it
    # Llama 3, and EuroBERT by it; Qwen 2
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
REGEXES = SPACES | WORDS


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turn what the `tokenizers` library raises, panics included, into an EncoderError."""
    try:
        yield
    except EncoderError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise EncoderError(f"{what}: {error}.") from None
        raise


def check_parts(content: dict[str, Any], where: object) -> None:
    """Check the parts of a tokenizer.json. Raises EncoderError, which names the part that is not read."""
    for name, known in {"normalizer": NORMALIZERS, "pre_tokenizer": PRE_TOKENIZERS}.items():
        parts, seen = list(_parts(content.get(name))), set[object]()
        if len(parts) > MOST:
            raise EncoderError(f"{where} has {len(parts)} parts in its {name}; {MOST} are the most.")
        for part in parts:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in known:
                raise EncoderError(f"{where} has the {name} {short(kind)}; regkit reads {', '.join(sorted(known))}.")
            if fault := _fault(part) or ("may stand there only once" if kind in ONCE & seen else None):
                raise EncoderError(f"{where}: the {name} {kind} {fault}.")
            seen.add(kind)


def check_charsmap(charsmap: bytes) -> None:
    """Check the map of characters that SentencePiece precompiles. Raises ValueError if it is damaged.

    It is a double-array trie and the texts that its leaves stand for. The library does not look where it points to.
    """
    size = int.from_bytes(charsmap[:4], "little")
    units = np.frombuffer(charsmap[4 : 4 + size // 4 * 4], "<u4").astype(np.int64)
    texts = charsmap[4 + size :]
    leaf = units >> 31 == 1
    nodes, leaves = np.flatnonzero(~leaf), units[leaf] & 0x7FFFFFFF  # a leaf is the place where its text begins
    children = nodes ^ (units[nodes] >> 10 << ((units[nodes] & 512) >> 6))
    if not len(nodes) or (children | 255).max() >= len(units) or leaves.max(initial=0) > len(texts):
        raise ValueError("the precompiled map of characters is damaged")
    if (np.frombuffer(texts + b"\0", np.uint8)[leaves] >> 6 == 0b10).any():
        raise ValueError("the precompiled map of characters points into the middle of a character")
    if max(map(len, texts.split(b"\0"))) > LONGEST:
        raise ValueError(f"the precompiled map of characters has texts of more than {LONGEST} bytes")


def _parts(part: Any) -> Iterator[Any]:
    """List a normalizer or a pre-tokenizer, or those of a sequence."""
    if isinstance(part, dict) and part.get("type") == "Sequence":
        for each in part.get("normalizers") or part.get("pretokenizers") or ():
            yield from _parts(each)
    elif part is not None:
        yield part


def _fault(part: dict[str, Any]) -> str | None:
    """Say why one part of a known type is not read; None if it is."""
    if part["type"] == "Prepend" and len(part["prepend"]) > PREFIX:
        return f"prepends more than {PREFIX} characters"
    if part["type"] == "Precompiled":
        check_charsmap(base64.b64decode(part["precompiled_charsmap"]))
    if part["type"] not in ("Replace", "Split"):
        return None
    (kind, pattern), *_ = part["pattern"].items()
    if kind != "String" and pattern not in REGEXES:
        return f"has the regular expression {short(pattern)}, which may take for ever and is not one that regkit knows"
    shortest = len(pattern) if kind == "String" else 1
    if not shortest or len(unicodedata.normalize("NFKD", part.get("content", ""))) > shortest:
        return "replaces a text by a longer one, and many of them would fill the memory"
    return None
