"""Marks: describe a value in a few words, so that a change in it shows.

Nothing is copied but small values.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regkit.tasks.task import Task

DEEPEST = 3  # levels of lists, dictionaries and objects in one another; what is deeper counts by its identity
MOST = 100  # items of a list that are looked at; of a longer one, a new length shows
SMALL = 10_000  # numbers of an array that are looked at

# What draws random numbers, and how its state is read.
GENERATORS: Mapping[type, Callable[[Any], object]] = {
    random.Random: lambda generator: hash(generator.getstate()),
    np.random.Generator: lambda generator: str(generator.bit_generator.state),
    np.random.RandomState: lambda generator: of_numpy(generator.get_state()),
    torch.Generator: lambda generator: generator.get_state().numpy().tobytes(),
}


def mark(value: object, depth: int = DEEPEST) -> object:
    """Describe a value. Two descriptions are equal if nothing was seen to change between them."""
    if isinstance(value, bool | int | str | bytes | None):
        return value
    if isinstance(value, Tensor):
        return id(value), _version(value)
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes() if value.size <= SMALL else b""
    if isinstance(value, nn.Module):
        return [mark(tensor) for tensor in (*value.parameters(), *value.buffers())]
    if isinstance(value, tuple(GENERATORS)):
        return state_of(value)
    if depth and isinstance(value, Mapping):
        items = islice(value.items(), MOST)
        return [len(value), *((mark(key), mark(item, depth - 1)) for key, item in items)]
    if depth and isinstance(value, list | tuple | set | frozenset | deque):
        return [len(value), *(mark(item, depth - 1) for item in islice(value, MOST))]
    if depth and not isinstance(value, type | Task) and hasattr(value, "__dict__"):
        return [id(value), *((name, mark(part, depth - 1)) for name, part in parts(value).items())]
    return repr(value) if isinstance(value, float) else id(value)


def bits(value: object) -> bytes:
    """Copy each bit of a tensor, and nothing of anything else: torch counts no change by `.data`."""
    if not isinstance(value, Tensor):
        return b""
    return value.detach().reshape(-1).cpu().view(torch.uint8).numpy().tobytes()


def parts(value: object) -> Mapping[str, object]:
    """List the attributes of an object by name, without what it derives from them when it is asked."""
    derived = {name for name, found in vars(type(value)).items() if type(found).__name__ == "cached_property"}
    return {name: part for name, part in held(value).items() if name not in derived}


def held(value: object) -> dict[str, object]:
    """List all attributes that an object holds by name, those in slots too."""
    slots = {name: getattr(value, name) for name in _slots(type(value)) if hasattr(value, name)}
    return {**getattr(value, "__dict__", {}), **slots}


def _slots(kind: type) -> list[str]:
    """List the names of the attributes that a class keeps in slots, with those of its bases."""
    slots = [vars(each).get("__slots__", ()) for each in kind.__mro__]
    names = [name for each in slots for name in ([each] if isinstance(each, str) else each)]
    return [name for name in names if not name.startswith("__")]


def state_of(generator: object) -> object:
    """Read the state of a random generator: of Python, numpy or torch."""
    if isinstance(generator, random.SystemRandom):
        return id(generator)  # it has no state
    return next(read(generator) for kind, read in GENERATORS.items() if isinstance(generator, kind))


def of_numpy(state: Any) -> object:
    """Describe what `get_state` of numpy gives."""
    _, key, *rest = state
    return key.tobytes(), *rest


def _version(tensor: Tensor) -> int:
    """Read torch's counter of changes in place, which tensors of inference mode do not have."""
    with suppress(RuntimeError):
        return tensor._version
    return 0
