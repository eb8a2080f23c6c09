"""Weight files: find and read the files with a checkpoint's tensors, whatever program wrote them."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from regkit.base.errors import EncoderError, short
from regkit.base.files import POINTER, check_fetched, check_plain, load_tensors, read_json

Tensors = dict[str, Tensor]


def find_weights(folder: Path) -> list[Path]:
    """Find the files with the weights: one, or those that an index lists."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return [folder / name]
        if (index := folder / f"{name}.index.json").exists():
            return _listed(index)
    raise EncoderError(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin is there.")


def _listed(index: Path) -> list[Path]:
    """Read the names of the files that an index lists. Raises EncoderError for one that is not beside it."""
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        paths = [index.parent / name for name in names if Path(name).name == name]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise EncoderError(f"{index} cannot be read: {short(error)}.") from None
    if len(paths) < len(names) or not paths:
        raise EncoderError(f"{index} lists no files, or one that is not beside it.")
    if missing := next((path for path in paths if not path.exists()), None):
        raise EncoderError(f"{index.parent} lacks {missing.name}, which {index.name} lists; fetch the whole folder.")
    return paths


def read_files(paths: Sequence[Path]) -> Tensors:
    """Read the tensors of all files. Raises EncoderError for one that cannot be read."""
    return {name: tensor for path in paths for name, tensor in _read_file(path).items()}


def _read_file(path: Path) -> Tensors:
    try:
        if path.suffix == ".safetensors":
            return load_tensors(path)
        check_plain(path)
        with path.open("rb") as file:
            check_fetched(file.read(len(POINTER)))
        _check_uncompressed(path)
        found = _innermost(torch.load(path, map_location="cpu", weights_only=True))
        return {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    except UnpicklingError:  # torch's own message says how to run such code anyway
        raise EncoderError(f"{path} cannot be read: it holds more than tensors, or is damaged.") from None
    except Exception as error:  # a damaged pickle leads torch to errors of any kind
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise EncoderError(f"{path} cannot be read: {reason}") from None


def _innermost(found: Any) -> dict[Any, Any]:
    """Find the state of a model in what a training script saved: `{"state_dict": {...}, "epoch": 3}`."""
    for _ in range(3):
        for name in ("state_dict", "model_state_dict", "model"):
            if isinstance(found, dict) and isinstance(found.get(name), dict):
                found = found[name]
    return dict(found)


def _check_uncompressed(path: Path) -> None:
    """Check that a zip file does not grow when it is read, as torch's own do not. Raises ValueError."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is compressed, or its parts overlap")
