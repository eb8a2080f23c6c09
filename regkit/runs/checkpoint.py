"""Checkpoint: write and read a folder with model, heads, tokenizer and what training needs to go on.

Tensors are safetensors, everything else is JSON: reading a checkpoint runs nothing. A folder is written under a
temporary name, flushed and renamed, so it is whole or not there. What happens to it later is found out by its `manifest`.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from regkit.base.errors import PluginError, RegkitError, RunError
from regkit.base.files import flush, load_tensors, read_json, save_tensors
from regkit.base.hidden import hidden
from regkit.model import MultitaskModel, save_encoder
from regkit.model.classifiers import OURS
from regkit.model.encoders import check_whole
from regkit.model.merging import is_plain, merge, plain_state
from regkit.model.pooling import made_for
from regkit.model.tokenizer import Tokenizer
from regkit.runs import packing
from regkit.runs.manifest import seal
from regkit.tasks.names import ENTRY, HIDDEN, PLUGINS
from regkit.training.state import State

ENCODER, HEADS = "encoder.", "heads."  # how the names of a model's tensors begin
BUILT = "built.safetensors"  # the tensors of plugins' modules, by their names in the model
# Other programs do not know our heads, and would answer with random ones of theirs. With no labels in config.json, and an
# architecture that says so, transformers and the cross-encoders of sentence-transformers have nothing to answer with.
OWN_HEADS = {"num_labels": 0}
# For the same reason, sentence-transformers finds in modules.json what it cannot load, and prints: it would take the mean of
# the hidden states, whatever the heads were trained on.
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "regkit export RUN --format sentence-transformers"}]


def save(
    folder: Path,
    model: MultitaskModel,
    tokenizer: Tokenizer,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint; `training` is any nesting of dicts, lists, tensors and plain values."""
    unfinished = hidden(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        _fill(unfinished, model, tokenizer, training)
    except RegkitError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    except (SafetensorError, OSError) as error:  # safetensors' own is no OSError, even on a full disk
        shutil.rmtree(unfinished, ignore_errors=True)
        raise RunError(f"the checkpoint {folder} cannot be written: {error}.") from None
    replaced = unfinished.with_name(f"{unfinished.name}.old")
    if folder.exists():
        folder.rename(replaced)  # whole, for whoever is killed in the next line
    unfinished.rename(folder)
    flush(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _fill(
    unfinished: Path,
    model: MultitaskModel,
    tokenizer: Tokenizer,
    training: Mapping[str, Any] | None,
) -> None:
    merged = merge(model) if model.built else model
    weights = plain_state(model, merged)
    config, tensors = save_encoder(merged.encoder, _inside(weights, ENCODER))
    tensors |= {HEADS + name: tensor.contiguous() for name, tensor in _inside(weights, HEADS).items()}
    if model.head_names:
        ending = "ForPreTraining" if len(model.head_names) > 1 else "ForMaskedLM"
        config["architectures"] = [each.removesuffix("Model") + ending for each in config["architectures"]]
    for name, names in model.head_names.items():
        tensors |= {theirs: weights[f"{HEADS}{name}.{ours}"].clone() for ours, theirs in names.items()}
    tasks = {name: description.model_dump(mode="json") for name, description in model.descriptions.items()}
    config[ENTRY] = config.get(ENTRY, {}) | {"pooling": model.pooling, "heads": model.forms, "tasks": tasks}
    if model.built:
        config[ENTRY][PLUGINS] = model.built.plugins
        if not is_plain(merged, "encoder"):
            config[ENTRY][HIDDEN], config["model_type"] = config["model_type"], ENTRY  # which no other program reads
        save_tensors(_apart(_of_plugins(model, weights)), unfinished / BUILT)
    if model.heads.keys() - model.head_names.keys():
        config |= OWN_HEADS | {"architectures": [OURS, *config.get("architectures", [])]}
        (unfinished / "modules.json").write_text(json.dumps(MODULES), encoding="utf8")
    (unfinished / "config.json").write_text(json.dumps(config, indent=2), encoding="utf8")
    save_tensors(_apart(tensors), unfinished / "model.safetensors")
    tokenizer.save(unfinished)
    if training is not None:
        save_training(unfinished, training)
    seal(unfinished, training.get("position") if isinstance(training, Mapping) else None)


def _of_plugins(model: MultitaskModel, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the tensors that are not found among those of the plain model, which are kept beside them."""
    homes = model.built.homes if model.built else {}
    found = {}
    for name, tensor in model.state_dict().items():
        other = plain.get(homes.get(name, ""))
        if other is None or other.dtype != tensor.dtype or not torch.equal(other.to(tensor.device), tensor):
            found[name] = tensor.contiguous()
    return found


def plain_tensors(folder: Path, model: MultitaskModel) -> dict[str, Tensor]:
    """Collect the tensors of the plain model.

    Those of the encoder were read already; those of the heads are in the file.
    """
    encoder = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith(ENCODER)}
    return encoder | {name: tensor for name, tensor in _tensors(folder).items() if name.startswith(HEADS)}


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share their memory with one before them: a file has each by itself."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def _inside(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the tensors whose names begin with a prefix, and strip it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def moment(state: State) -> tuple[MultitaskModel, dict[str, Any]]:
    """Collect the model to keep and the training state of this moment.

    Raises PluginError or RunError where a checkpoint could not be read back, or a number is not finite.
    """
    model, training = state.evaluated_model(), state.capture()
    state.check_form()
    if other := next((name for name, value in model.state_dict().items() if not isinstance(value, Tensor)), None):
        raise PluginError(
            f"'{other}' in the model's state is no tensor; of plugins' modules, only tensors can be kept."
        )
    packing.check(training)
    if trouble := not_finite(model.state_dict(), training):
        raise RunError(f"{trouble} is not finite at step {state.position.step}; no checkpoint was written.")
    return model, training


def rehearse(state: State) -> None:
    """Try in memory what `save` would write now. Raises PluginError or RunError for what cannot be kept."""
    model, training = moment(state)
    packing.try_out(training)
    if model.built:
        merge(model)


def not_finite(weights: Mapping[str, Tensor], training: Mapping[str, Any]) -> str:
    """Name the first weight or number of the training state that is not finite; nothing if all are."""
    for name, tensor in (weights | training.get("model", {})).items():
        if not tensor.isfinite().all():
            return f"the weight {name}"
    found = next((name for name, value in _leaves(training, "") if value != value), "")
    owner, _, rest = found.partition(".")
    name, _, key = rest.partition(".")
    return f"plugin '{name}': '{key}' in its state_dict" if owner == "plugins" else found


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Iterate over all plain numbers with their names; a tensor counts as NaN if one of its values is."""
    if isinstance(value, Tensor):
        yield name, torch.nan if value.isnan().any() else 0.0
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{name}.{number}")
    elif isinstance(value, float):
        yield name, value


def export_encoder(checkpoint: Path, folder: Path) -> None:
    """Copy the encoder of a checkpoint, its tokenizer and known heads to where transformers finds them.

    config.json comes last: before it is there, the folder is no encoder.
    """
    check_whole(checkpoint)
    tensors = load_tensors(checkpoint / "model.safetensors")
    unfinished = hidden(folder / "export")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        outside = {name: tensor for name, tensor in tensors.items() if not name.startswith(HEADS)}
        save_tensors(outside, unfinished / "model.safetensors")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(checkpoint / name, unfinished / name)
        config = {key: value for key, value in read_json(checkpoint / "config.json").items() if key not in OWN_HEADS}
        config["architectures"] = [name for name in config.get("architectures", []) if name != OURS]
        kept = {key: value for key, value in config.get(ENTRY, {}).items() if key not in ("heads", "tasks", PLUGINS)}
        config[ENTRY] = kept | {"pooling": made_for(checkpoint)}
        (unfinished / "config.json").write_text(json.dumps(config, indent=2), encoding="utf8")
        for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"):
            flush(unfinished / name)
            (unfinished / name).replace(folder / name)
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"the encoder cannot be written into {folder}: {error}.") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def saved_forms(folder: Path) -> dict[str, list[str | None]]:
    """Read what the numbers of each head in a checkpoint mean, by task; nothing if it is not a run's."""
    try:
        heads = read_json(folder / "config.json")[ENTRY]["heads"]
        return {str(name): list(form) for name, form in heads.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def load_heads(folder: Path, heads: nn.ModuleDict) -> None:
    """Fill the heads from a checkpoint. Raises RunError naming a task whose head is missing or differs."""
    tensors = _tensors(folder)
    for name, head in heads.items():
        found = _inside(tensors, f"{HEADS}{name}.")
        if _kinds(found) != _kinds(head.state_dict()):
            raise RunError(f"{folder} has no head for task '{name}' as it is declared now.")
        if not all(tensor.isfinite().all() for tensor in found.values()):
            raise RunError(f"{folder}: the head of task '{name}' has numbers that are not finite.")
        head.load_state_dict(found)


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / "model.safetensors"
    try:
        return load_tensors(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from None


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def save_training(folder: Path, training: Mapping[str, Any]) -> None:
    """Write training state into a folder: any nesting of dicts, lists, tensors and plain values."""
    text, found = packing.encode(training)
    (folder / "training.json").write_text(text, encoding="utf8")
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in found.items()
    }
    save_tensors(copies, folder / "training.safetensors")


def load_training(folder: Path) -> Any:
    """Read what `save` or `save_training` was given as `training`."""
    try:
        plain = read_json(folder / "training.json")
        return packing.unpack(plain, load_tensors(folder / "training.safetensors"))
    except KeyError as error:
        raise RunError(f"{folder} cannot be resumed from: {error} is missing.") from None
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{folder} cannot be resumed from: {error}.") from None
