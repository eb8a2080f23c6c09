"""Encoder: run a user's encoder, any module with `embed` and `encode`, as if it were minBERT.

A checkpoint has its tensors and the name of the function that built it. regkit imports that function only where the user
names it again, because a checkpoint is data.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from regkit.base.errors import EncoderError, short
from regkit.model.attention import usual_heads
from regkit.model.own.errors import LacksError, named
from regkit.tasks.batch import Batch
from regkit.tasks.names import ENTRY

FACTORY = "factory"  # in regkit's entry of config.json: MODULE:FUNCTION
PREFIX = "encoder."  # before the names of the encoder's tensors in a checkpoint, which has heads too


class Own(nn.Module):
    """An encoder of the user's own. What it does not define is that of its `module`, or a LacksError.

    What a run calls ends in an EncoderError that names the encoder if it fails, or answers what cannot be used.
    """

    def __init__(self, module: nn.Module, factory: str) -> None:
        super().__init__()
        self.module, self.factory = module, factory
        self.norm, self.activation = nn.LayerNorm(1, 1e-12, elementwise_affine=False), nn.GELU()  # BERT's

    def __getattr__(self, name: str) -> Any:
        with suppress(AttributeError):
            return super().__getattr__(name)
        module = super().__getattr__("module")
        if hasattr(module, name) and not name.startswith("__"):  # `__deepcopy__` and the like are for itself
            return self._pooled if name == "pool" else getattr(module, name)
        raise LacksError(f"the encoder of {self.factory} has no '{name}'.")

    def embed(self, batch: Batch) -> Tensor:
        """Look up word embeddings, `[tokens, width]`."""
        return self._asked("embed", len(batch.tokens), None, batch)

    def encode(self, embeddings: Tensor, batch: Batch, rows: Tensor | None = None) -> Tensor:
        """Compute hidden states, `[tokens, width]`, or with `rows` those of some tokens, `[rows, width]`."""
        if rows is None:
            return self._asked("encode", len(embeddings), self.width, embeddings, batch)
        return self._asked("encode with rows", len(rows), self.width, embeddings, batch, rows)

    def _pooled(self, hidden: Tensor) -> Tensor:
        """Turn hidden states of first tokens into text vectors, both `[sequences, width]`."""
        return self._asked("pool", len(hidden), self.width, hidden)

    def _asked(self, what: str, rows: int, width: int | None, *given: object) -> Tensor:
        """Call a method of the user's, and check what it answers; `width` is None where any will do."""
        name, owner = what.partition(" ")[0], f"the encoder of {self.factory}"
        if not hasattr(self.module, name):
            raise LacksError(f"{owner} has no '{name}'.")
        with named(f"{name} of {owner}"):
            found = getattr(self.module, name)(*given)
        if not isinstance(found, Tensor):
            raise EncoderError(f"{owner}: {what} gives {short(repr(found))} instead of a tensor.")
        wanted = [rows, width or (found.shape[1] if found.dim() == 2 else self.width)]
        if list(found.shape) != wanted:
            raise EncoderError(f"{owner}: {what} gives {list(found.shape)} instead of {wanted}.")
        kind = found.device.type
        casts = {torch.get_autocast_dtype(kind)} if torch.is_autocast_enabled(kind) else set()
        if found.dtype not in {torch.float32, *casts}:
            raise EncoderError(f"{owner}: {what} gives numbers in {_name(found.dtype)} instead of float32.")
        return found

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


def factory_of(entries: object) -> str | None:
    """Read from a config.json which function built the encoder; None if it is not a user's own."""
    entry = entries.get(ENTRY) if isinstance(entries, dict) else None
    found = entry.get(FACTORY) if isinstance(entry, dict) else None
    return found if isinstance(found, str) else None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
