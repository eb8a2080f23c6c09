"""Own: run a user's encoder, any module with `embed` and `encode`, as if it were minBERT.

A checkpoint has its tensors and the name of the function that built it. regkit imports that function only where the user
names it again, because a checkpoint is data.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regkit.base.errors import EncoderError, RegkitError, nearest, short
from regkit.base.failures import gone, last_line, ran_out
from regkit.base.files import load_tensors
from regkit.model.attention import usual_heads
from regkit.model.dropout import Dropout
from regkit.model.modes import mode
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.batch import Batch
from regkit.tasks.names import ENTRY

FACTORY = "factory"  # in regkit's entry of config.json: MODULE:FUNCTION
PREFIX = "encoder."  # before the names of the encoder's tensors in a checkpoint, which has heads too
CLOSE = 1e-4  # how far hidden states may be from those of a text alone, in units of the largest
TRIED = 512  # tokens of the longest text of the trial
CALLED = ("embed", "encode", "pool")  # by a run: an error in one of these is the user's


class LacksError(EncoderError, AttributeError):
    """Report what an encoder of the user's own lacks. It is an AttributeError too, so `hasattr` works."""


class Own(nn.Module):
    """An encoder of the user's own. What it does not define is that of its `module`, or a LacksError."""

    def __init__(self, module: nn.Module, factory: str) -> None:
        super().__init__()
        self.module, self.factory = module, factory
        self.norm, self.activation = nn.LayerNorm(1, 1e-12, elementwise_affine=False), nn.GELU()  # BERT's

    def __getattr__(self, name: str) -> Any:
        with suppress(AttributeError):
            return super().__getattr__(name)
        module = super().__getattr__("module")
        if hasattr(module, name) and not name.startswith("__"):  # `__deepcopy__` and the like are for itself
            found = getattr(module, name)
            return _named(f"{name} of the encoder of {self.factory}")(found) if name in CALLED else found
        raise LacksError(f"the encoder of {self.factory} has no '{name}'.")

    @property
    def attention_heads(self) -> int:
        """The usual number for its width: what is inside it is not known."""
        return usual_heads(self.width)

    @property
    def pooler(self) -> nn.Module:
        """The module with the weights of `pool`; one without weights where there is none."""
        found: nn.Module = getattr(self.module, "pooler", nn.Identity())
        return found

    @property
    def head_names(self) -> Mapping[str, Mapping[str, str]]:
        """No names: other programs have no checkpoints of this encoder, and so none of its heads."""
        return {"words": {}, "follows": {}}

    def own_form(self, weights: Mapping[str, Tensor] | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Convert to the form of a checkpoint: the content of config.json, and named tensors.

        `weights` are another state of the same encoder.
        """
        entries = {"model_type": "regkit", ENTRY: {FACTORY: self.factory}}
        # Copies, because tied weights share memory, and safetensors takes no such tensors.
        tensors = {
            PREFIX + name.removeprefix("module."): tensor.clone()
            for name, tensor in (weights or self.state_dict()).items()
        }
        return entries, tensors


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
    _try(own, len(tokenizer))
    return own


def factory_of(entries: object) -> str | None:
    """Read from a config.json which function built the encoder; None if it is not a user's own."""
    entry = entries.get(ENTRY) if isinstance(entries, dict) else None
    found = entry.get(FACTORY) if isinstance(entry, dict) else None
    return found if isinstance(found, str) else None


def _call(factory: str, tokenizer: Tokenizer) -> object:
    """Import the function that the user named, and call it with the tokenizer."""
    name, _, function = factory.partition(":")
    with _named(factory):
        module = import_module(name)
        if not hasattr(module, function):
            known = [each for each in vars(module) if not each.startswith("_")]
            raise EncoderError(f"{name} has no '{function}'. {nearest(function, known)}")
        return getattr(module, function)(tokenizer)


@contextmanager
def _named(owner: str) -> Iterator[None]:
    """Turn whatever the user's code raises into an EncoderError that names it.

    Running out of memory is no fault, nor is another process that is gone.
    """
    try:
        yield
    except RegkitError:
        raise
    except Exception as error:
        if ran_out(error) or gone(error):
            raise
        raise EncoderError(f"{owner} failed: {last_line(error)}.") from error


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


def _try(own: Own, words: int) -> None:
    """Run three texts together and one at a time.

    Raises EncoderError if shapes are wrong, or texts see each other.
    """
    owner = f"the encoder of {own.factory}"
    with _named(f"{owner}, tried on three texts,"), torch.no_grad(), mode(own, training=False):
        lengths = [3, 8, min(own.longest, TRIED)]
        ids = np.resize(np.arange(words)[::-1], sum(lengths))  # from the highest on: each word needs an embedding
        texts = np.split(ids, np.cumsum(lengths)[:-1])
        hidden, rows = _run(own, texts)
        alone = torch.cat([_run(own, [text])[0] for text in texts])
    if not _close(hidden, alone):
        raise EncoderError(
            f"{owner} gives other hidden states for a text when others stand beside it in the batch; "
            "keep texts apart by batch.starts, batch.counts or batch.sequence_of."
        )
    if not _close(rows, hidden[np.cumsum([0, *lengths[:-1]])]):
        raise EncoderError(f"{owner}: encode with rows gives other tokens than those of the rows.")


def _close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).abs().max() <= CLOSE * wanted.abs().max())


def _run(own: Own, texts: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Compute hidden states, `[tokens, width]`, and those of the first tokens.

    Raises EncoderError for other shapes.
    """
    batch = Batch.pack(texts, [np.zeros_like(text) for text in texts])
    embeddings = own.embed(batch)
    hidden, rows = own.encode(embeddings, batch), own.encode(embeddings, batch, batch.starts)
    for name, found, count in (("encode", hidden, len(batch.tokens)), ("encode with rows", rows, len(texts))):
        if list(found.shape) != [count, own.width]:
            said = f"{name} gives {list(found.shape)} instead of {[count, own.width]}"
            raise EncoderError(f"the encoder of {own.factory}: {said}.")
    return hidden, rows
