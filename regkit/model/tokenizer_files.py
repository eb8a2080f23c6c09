"""Tokenizer files: read a folder's tokenizer as AutoTokenizer does, or refuse it by name."""

import base64
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE, WordPiece

from regkit.base.errors import EncoderError, short
from regkit.base.files import check_plain, read_json
from regkit.model.tokenizer_added import (
    Settings,
    add_tokens,
    extra_tokens,
    numbered_tokens,
    read_settings,
    special_tokens,
    tokenizer_settings,
    usual_names,
)
from regkit.model.tokenizer_classes import (
    ALWAYS_AS_IT_IS,
    AS_IT_IS,
    CLASSES,
    TYPES,
    Options,
    TokenizerClass,
    Vocabulary,
    template,
)
from regkit.model.tokenizer_parts import check_charsmap, check_parts, library_errors

WHOLE = "tokenizer.json"
REMEDY = "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers may write it"
MOST = 3 << 24  # bytes of a tokenizer.json; that of a multilingual encoder with 256,000 words has 34 million


def read_tokenizer(folder: Path) -> tuple[Backend, Settings]:
    """Read a folder's tokenizer, and the settings with which transformers reads it again.

    They are the names of the special tokens, by role, and what tokenizer.json has no place for.
    """
    settings = tokenizer_settings(folder)
    known = _class(folder, settings)
    path = _find(folder, known)
    with library_errors(f"{path} cannot be read as a tokenizer"):
        backend, names = _read(path, settings, known)
    return backend, names | _kept(settings, known)


def _read(path: Path, settings: Settings, known: TokenizerClass | None) -> tuple[Backend, dict[str, str]]:
    """Build a tokenizer with its added tokens. Returns it with the names of the special ones, by role."""
    content = read_json(path, MOST) if path.name == WHOLE else None
    special = special_tokens(path.parent, settings, known)
    names = {role: token.content for role, token in special.items()}
    if known is None:
        backend = _as_it_is(path, content)
    else:
        vocabulary = _from_files(path.parent, known) if content is None else _from_json(path, content, known)
        backend = known.build(vocabulary, Options(path, settings, names))
    inside = content.get("added_tokens", ()) if content else ()
    extra = extra_tokens(settings, known)
    words = [token.content for token in (*special.values(), *extra)]
    add_tokens(backend, numbered_tokens(path.parent, settings, words, inside), special, extra)
    backend.encode_special_tokens = bool(settings.get("split_special_tokens"))
    if known is None:
        names |= usual_names(backend, names)
    else:
        backend.post_processor = template(backend, *(names[role] for role in known.ends), doubled=known.doubled)
    return backend, names


def _class(folder: Path, settings: Settings) -> TokenizerClass | None:
    """Choose the class that transformers takes; None takes tokenizer.json as it is."""
    for unread in ("auto_map", "fast_tokenizer_files"):
        if settings.get(unread):
            raise EncoderError(f"{folder / 'tokenizer_config.json'} has {unread}; regkit reads no such tokenizer.")
    config = read_settings(folder / "config.json")
    kind = config.get("model_type", "bert")
    if kind in ALWAYS_AS_IT_IS:
        return None
    name = settings.get("tokenizer_class") or config.get("tokenizer_class") or TYPES.get(kind)
    plain = str(name).removesuffix("Fast")
    if plain in AS_IT_IS:
        return None
    if plain not in CLASSES:
        what = f"has the tokenizer {short(name)}" if name else f"names no tokenizer for its model_type '{short(kind)}'"
        raise EncoderError(
            f"{folder} {what}, which regkit does not read; "
            "it reads any tokenizer.json whose tokenizer_class is PreTrainedTokenizerFast."
        )
    return CLASSES[plain]


def _find(folder: Path, known: TokenizerClass | None) -> Path:
    """Find the file with the vocabulary: tokenizer.json, or else what the class reads.

    Raises EncoderError.
    """
    if (folder / WHOLE).exists():
        return folder / WHOLE
    if known is None or not known.files:
        raise EncoderError(f"{folder} has no tokenizer: {WHOLE} is not there; {REMEDY}.")
    for name in known.files:
        if not (folder / name).exists():
            raise EncoderError(f"{folder} has no tokenizer: neither {WHOLE} nor {name} is there.")
        check_plain(folder / name)
        if (folder / name).stat().st_size > MOST:
            raise EncoderError(f"{folder / name} is no vocabulary: it has more than {MOST} bytes.")
    return folder / known.files[0]


def _as_it_is(path: Path, content: Any) -> Backend:
    model, check = content["model"], content["model"].get("unk_token")
    if _model(model) in ("WordPiece", "WordLevel") and check not in model["vocab"]:
        raise EncoderError(f"{path}: the vocabulary has no {check}, the word for unknown ones.")
    if _model(model) == "Unigram" and model.get("unk_id") is None:
        raise EncoderError(f"{path}: the vocabulary has no word for unknown ones (unk_id).")
    if model.get("dropout"):
        raise EncoderError(f"{path} cuts words at random (dropout is {short(model['dropout'])}); set it to null.")
    check_parts(content, path)
    return Backend.from_str(json.dumps(content))  # not the file, where a key may stand twice: readers differ


def _from_files(folder: Path, known: TokenizerClass) -> Vocabulary:
    paths = [str(folder / name) for name in known.files]
    return Vocabulary(WordPiece.read_file(*paths)) if known.model == "WordPiece" else Vocabulary(*BPE.read_file(*paths))


def _from_json(path: Path, content: Any, known: TokenizerClass) -> Vocabulary:
    model = content["model"]
    if _model(model) != known.model:
        raise EncoderError(f"{path} has a {short(_model(model))} model; its class needs {known.model}.")
    if known.model == "Unigram":
        return Vocabulary([(word, score) for word, score in model["vocab"]], charsmap=_charsmap(content))
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model.get("merges", ())]
    return Vocabulary(model["vocab"], merges)


def _model(model: Settings) -> str:
    """Name the type of a model, which old files leave out."""
    usual = "BPE" if "merges" in model else "Unigram" if isinstance(model["vocab"], list) else "WordPiece"
    return str(model.get("type", usual))


def _charsmap(content: Settings) -> bytes | None:
    """Find SentencePiece's map of characters in a tokenizer.json."""
    normalizer = content.get("normalizer") or {}
    for part in normalizer.get("normalizers", [normalizer]):
        if part.get("type") == "Precompiled":
            charsmap = base64.b64decode(part["precompiled_charsmap"])
            check_charsmap(charsmap)
            return charsmap
    return None


def _kept(settings: Settings, known: TokenizerClass | None) -> Settings:
    """Keep the settings that tokenizer.json has no place for."""
    kept = {
        "model_max_length": settings.get("model_max_length", settings.get("max_len")),
        "model_input_names": settings.get("model_input_names", known and list(known.inputs)),
        "split_special_tokens": settings.get("split_special_tokens"),
    }
    return {name: value for name, value in kept.items() if value}
