"""Restore: read a Trainer's checkpoint whose files call some weights otherwise than the model does.

transformers saves a model under the names of the files that it came from: of many older ones, such as BERT's, each LayerNorm
has a `gamma` and a `beta`. `from_pretrained` translates them. A Trainer that goes on, or that loads its best checkpoint, does
not, and leaves such weights as they were.
"""

import json
from pathlib import Path
from typing import Any

import torch

from regkit.base.randomness import unchanged
from regkit.model.foreign import quiet

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"  # in one file, or in several


def restore(model: Any, folder: Path) -> bool:
    """Load the weights of a checkpoint as `from_pretrained` reads it, if a Trainer would leave some out.

    Returns whether it did: of files whose names are the model's, and of models that are not of transformers, nothing is read.
    """
    import transformers

    known = model.state_dict().keys()
    if not isinstance(model, transformers.PreTrainedModel) or not _names(folder) - known:
        return False
    with quiet(transformers), unchanged(model.device):
        read, said = type(model).from_pretrained(
            folder, config=model.config, dtype=model.dtype, local_files_only=True, output_loading_info=True
        )
    if said["missing_keys"]:
        return False  # these are not the model's weights under other names: the Trainer says what is missing
    with torch.no_grad():
        model.load_state_dict(read.state_dict())
    return True


def _names(folder: Path) -> set[str]:
    """List the names of a checkpoint's weights."""
    from safetensors import safe_open

    if (folder / INDEX).is_file():
        return set(json.loads((folder / INDEX).read_text(encoding="utf8"))["weight_map"])
    if not (folder / WEIGHTS).is_file():
        return set()
    with safe_open(folder / WEIGHTS, "pt") as file:
        return set(file.keys())
