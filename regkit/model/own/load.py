"""Load: build an encoder by the user's function, and give it the weights of a checkpoint."""

from importlib import import_module
from pathlib import Path

from torch import nn

from regkit.base.errors import EncoderError, nearest, short
from regkit.base.files import load_tensors
from regkit.model.dropout import Dropout
from regkit.model.own.encoder import PREFIX, Own
from regkit.model.own.errors import named
from regkit.model.own.trial import try_out
from regkit.model.tokenizer import Tokenizer


def load_own(factory: str, folder: Path | None, tokenizer: Tokenizer, dropout: float | None = None) -> Own:
    """Build an encoder by the user's function, with a checkpoint's weights, or new ones for None.

    `dropout` overrides the rates of its dropout modules. Raises EncoderError.
    """
    module = _call(factory, tokenizer)
    if not isinstance(module, nn.Module):
        raise EncoderError(f"{factory} gives {short(repr(module))}; it needs to give a torch module.")
    if dropout is not None:
        _set_dropout(module, dropout)
    if folder:
        _fill(module, folder, factory)
    own = Own(module, factory)
    try_out(own, len(tokenizer))
    return own


def _call(factory: str, tokenizer: Tokenizer) -> object:
    """Import the function that the user named, and call it with the tokenizer."""
    name, _, function = factory.partition(":")
    with named(factory):
        module = import_module(name)
        if not hasattr(module, function):
            known = [each for each in vars(module) if not each.startswith("_")]
            raise EncoderError(f"{name} has no '{function}'. {nearest(function, known)}")
        return getattr(module, function)(tokenizer)


def _set_dropout(module: nn.Module, rate: float) -> None:
    for part in module.modules():
        if isinstance(part, Dropout):
            part.rate = rate
        elif isinstance(part, nn.Dropout):
            part.p = rate


def _fill(module: nn.Module, folder: Path, factory: str) -> None:
    """Give the module the weights of a checkpoint. Raises EncoderError, which names the tensor."""
    path, wanted = folder / "model.safetensors", module.state_dict()
    try:
        tensors = load_tensors(path)
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read: {error}.") from None
    found = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    for name in sorted(found.keys() | wanted.keys()):
        shapes = [list(side[name].shape) if name in side else "not there" for side in (found, wanted)]
        if shapes[0] != shapes[1]:
            raise EncoderError(
                f"{folder}: the tensor '{name}' is {shapes[0]}, but {shapes[1]} in what {factory} builds."
            )
        if not found[name].isfinite().all():
            raise EncoderError(f"{folder}: the tensor '{name}' has numbers that are not finite.")
    module.load_state_dict(found)
