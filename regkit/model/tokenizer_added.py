"""Added tokens: find the words that a folder adds to a vocabulary, and the special tokens."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from regkit.base.errors import EncoderError
from regkit.base.files import read_json
from regkit.model.tokenizer_classes import ROLES, TokenizerClass

Settings = dict[str, Any]
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
USUAL = {  # names to look for where a tokenizer.json stands alone, by role
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
    "unk_token": ("[UNK]", "<unk>"),
    "pad_token": ("[PAD]", "<pad>"),
}


def read_settings(path: Path) -> Settings:
    """Read a JSON object; an empty one if there is no file. Raises EncoderError if it cannot be read."""
    try:
        found = read_json(path) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read: {error}.") from None
    if not isinstance(found, dict):
        raise EncoderError(f"{path} cannot be read: it is not a JSON object.")
    return found


def tokenizer_settings(folder: Path) -> Settings:
    """Read tokenizer_config.json, and special_tokens_map.json, which older folders have beside it."""
    settings = read_settings(folder / "tokenizer_config.json")
    if not settings.get("extra_special_tokens") and "additional_special_tokens" in settings:
        settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
    if "added_tokens_decoder" in settings:
        return settings
    for name, value in read_settings(folder / "special_tokens_map.json").items():
        both = name == "extra_special_tokens" and isinstance(value, list)
        settings[name] = [*(settings.get(name) or ()), *value] if both else value
    return settings


def special_tokens(folder: Path, settings: Settings, known: TokenizerClass | None) -> dict[str, AddedToken]:
    """Find the special tokens by role, in the order in which transformers adds them."""
    usual = {} if known is None else known.names
    said = {name: value for name, value in settings.items() if name.endswith("_token")}
    if isinstance(more := settings.get("extra_special_tokens"), dict):
        said |= more
    found = {}
    for role in dict.fromkeys((*ROLES, *said)):
        value = said.get(role, usual.get(role))
        if value is None and role in usual:
            raise EncoderError(f"{folder / 'tokenizer_config.json'}: {role} is null; a word is needed.")
        if isinstance(value, str | dict):
            found[role] = _token(value)
    return found


def extra_tokens(settings: Settings, known: TokenizerClass | None) -> list[AddedToken]:
    """List the special tokens without a role."""
    usual = settings.get("additional_special_tokens", () if known is None else known.extra)
    extra = settings.get("extra_special_tokens", usual) or ()
    return [] if isinstance(extra, dict) else [_token(token) for token in extra]


def numbered_tokens(folder: Path, settings: Settings, special: Iterable[str], inside: Any) -> list[AddedToken]:
    """List the added tokens that the files number, in that order; `inside` are those of tokenizer.json."""
    if "added_tokens_decoder" in settings:
        numbered = {int(number): _token(token) for number, token in settings["added_tokens_decoder"].items()}
    else:
        older, named = read_settings(folder / "added_tokens.json"), set(special)
        numbered = {number: AddedToken(word, special=word in named) for word, number in older.items()}
        numbered |= {token["id"]: _token(token) for token in inside}
    return [numbered[number] for number in sorted(numbered)]


def add_tokens(
    backend: Backend, numbered: Iterable[AddedToken], special: Mapping[str, AddedToken], extra: Iterable[AddedToken]
) -> None:
    """Add to the vocabulary what is not there yet; a word keeps its number."""
    there = {token.content for token in backend.get_added_tokens_decoder().values()}
    added = {token.content: token for token in numbered}
    named = {token.content for token in special.values()}
    for token in (*special.values(), *extra):
        if token.content not in there:
            added.setdefault(token.content, token)
    for token in added.values():
        token.special = token.special or token.content in named
    backend.add_tokens(list(added.values()))


def usual_names(backend: Backend, named: Iterable[str]) -> dict[str, str]:
    """Look for special tokens under their usual names, for the roles for which a folder names none."""
    words = {token.content for token in backend.get_added_tokens_decoder().values()}
    found = {role: [name for name in names if name in words] for role, names in USUAL.items() if role not in named}
    return {role: names[0] for role, names in found.items() if names}


def _token(value: Any) -> AddedToken:
    if isinstance(value, str):
        return AddedToken(value, special=True)
    return AddedToken(value["content"], **{flag: value[flag] for flag in FLAGS if flag in value})
