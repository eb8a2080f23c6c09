"""Packing: turn training state into JSON and tensors, and back; say what cannot be kept."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from regkit.base.errors import PluginError, RunError, short
from regkit.base.files import HEADER, TEXT

KEPT = "a checkpoint keeps tensors, numbers, text, None, and lists and dictionaries of them"
DEEPEST = (
    20  # lists and dictionaries in one another; in JSON, which is read to a depth of 100, a dictionary takes three
)
LARGEST = 10_000  # bits of a whole number: Python writes no larger one as decimal digits
MOST = HEADER // 128  # tensors: each has about a hundred bytes in the header of a safetensors file

Place = tuple[str, ...]  # the keys that lead to a value


def check(training: Any) -> None:
    """Check that training state can be kept.

    Raises PluginError or RunError, which names the owner and the key.
    """
    for place, what in _misfits(training, ()):
        owner, *inside = place or ("training",)
        if owner == "plugins" and inside:
            name, *inside = inside
            raise PluginError(f"plugin '{name}': its state_dict has {what}{_at(inside)}; {KEPT}.")
        raise RunError(f"the state of the {owner} has {what}{_at(inside)}; {KEPT}.")


def _at(keys: list[str]) -> str:
    return f" at '{short('.'.join(keys))}'" if keys else ""


def _misfits(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """Find what cannot be kept, and where it is."""
    if len(place) > DEEPEST:
        yield place[:3], f"more than {DEEPEST} lists and dictionaries in one another"
    elif isinstance(value, Tensor):
        if not _storable(value):
            yield place, f"a tensor that is {value.dtype}, {value.layout}, on {value.device}".replace("torch.", "")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int | float | None):
                yield place, f"the key {short(repr(key))}"
            yield from _misfits(item, (*place, str(key)))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _misfits(item, (*place, str(number)))
    elif isinstance(value, int) and value.bit_length() > LARGEST:
        yield place, f"a whole number of {value.bit_length()} bits"
    elif not isinstance(value, str | int | float | None):
        yield place, f"{short(repr(value))}, of type {type(value).__name__}"


def _storable(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_meta and _known(tensor.dtype)


@cache
def _known(dtype: torch.dtype) -> bool:
    """Whether safetensors has a name for this type."""
    try:
        save({"": torch.empty(0, dtype=dtype)})
    except (KeyError, ValueError, RuntimeError):
        return False
    return True


def encode(training: Any) -> tuple[str, dict[str, Tensor]]:
    """Turn training state into JSON and tensors by name.

    Raises PluginError or RunError for what could not be read back.
    """
    check(training)
    tensors: dict[str, Tensor] = {}
    text = json.dumps(pack(training, tensors))
    if len(text) > TEXT or len(tensors) > MOST:
        raise RunError(
            f"the training state has {len(tensors)} tensors and {len(text) >> 10} KiB of other values, and a checkpoint "
            f"{MOST} and {TEXT >> 10} at most; a plugin that keeps long lists should keep them as tensors."
        )
    return text, tensors


def try_out(training: Any) -> None:
    """Encode training state and read it back, in memory.

    Raises PluginError or RunError for what could not be kept, and RunError for what comes back as something else.
    """
    text, tensors = encode(training)
    copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    back = unpack(json.loads(text), load(save(copies)))
    if encode(back)[0] != text:
        raise RunError(f"the training state is not read back from a checkpoint as it was saved; {KEPT}.")


def pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn the value into what JSON can hold, and put its tensors into `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[pack(key, tensors), pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [pack(item, tensors) for item in value]
    return value


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Turn back what `pack` made; a tuple comes back as a list."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {unpack(key, tensors): unpack(item, tensors) for key, item in value["dict"]}
