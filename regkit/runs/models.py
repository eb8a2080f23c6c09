"""Models: build the model of a checkpoint again, with the modules that plugins put in.

What a plain model has is read as of any encoder folder. `built.safetensors` holds the tensors that plugins have added or
keep in another form, and config.json says which plugins, with which options, build what these belong to.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regkit.base.errors import PluginError, RunError, short, typed
from regkit.base.files import load_tensors
from regkit.base.randomness import Streams
from regkit.hooks import catalog, option_values, uninstalled
from regkit.hooks.compose import Composition, compose
from regkit.hooks.defaults import Defaults
from regkit.model import Encoder, MultitaskModel, encoders
from regkit.model.encoders import Loaded
from regkit.model.pooling import made_for
from regkit.runs import checkpoint
from regkit.runs.described import descriptions, entry
from regkit.tasks.names import PLUGINS, Pooling
from regkit.tasks.task import Task

Recorded = Mapping[str, Mapping[str, Any]]  # plugins that have put modules in, each with its options, in order


def read(folder: Path, factory: str | None = None) -> Loaded:
    """Read tokenizer and encoder of a checkpoint, still without plugins' modules.

    `factory` builds the encoder if it is the user's own. Raises EncoderError, or RunError for a factory without need.
    """
    found = encoders.load(folder, factory, bare=True)
    if found.weights is None:  # or else its weights would be new ones
        raise RunError(f"{folder} has no encoder of your own; leave out {typed('--encoder-factory', factory)}.")
    return found


def assemble(
    folder: Path, encoder: Encoder, tasks: Sequence[Task], device: torch.device, pooling: Pooling | None = None
) -> MultitaskModel:
    """Make the model of a checkpoint for some of its tasks, with the modules that plugins put in.

    It is in evaluation mode, and stays there, so that several threads may ask it. Raises RunError if heads or modules are
    not those of the checkpoint, or a plugin is not installed.
    """
    composition = _composition(folder)
    known = [] if composition is None else _others(folder, tasks)  # modules may depend on how many there are
    model = MultitaskModel(encoder, [*tasks, *known], Streams(0), pooling=pooling or made_for(folder))
    fill(folder, model, lambda: composition.build(model, [*tasks, *known]) if composition else None)
    return model.to(device).eval()


def fill(folder: Path, model: MultitaskModel, build: Callable[[], object]) -> None:
    """Give a model, whose encoder was read from a checkpoint, all its other weights.

    `build` lets plugins put modules in. Raises RunError if heads or modules are not those of the checkpoint.
    """
    known = recorded(folder)
    if not known:
        checkpoint.load_heads(folder, model.heads)
    plain = checkpoint.plain_tensors(folder, model) if known else {}
    build()
    built = model.built.plugins if model.built else {}
    if list(built) != list(known):
        raise RunError(f"{folder} has modules of {_listed(known)}, and this run puts in those of {_listed(built)}.")
    if known:
        model.load_state_dict(_state(folder, model, plain))


def recorded(folder: Path) -> Recorded:
    """Read which plugins have put modules into the model of a checkpoint.

    Raises RunError for a damaged record.
    """
    found = entry(folder).get(PLUGINS, {})
    if not isinstance(found, dict) or not all(isinstance(options, dict) for options in found.values()):
        raise RunError(
            f"{folder / 'config.json'}: the plugins of regkit are {short(repr(found))}, which no run writes."
        )
    return found


def _composition(folder: Path) -> Composition | None:
    """Make the plugins that have put modules into the model of a checkpoint."""
    plugins = {name: _make(folder, name, options) for name, options in recorded(folder).items()}
    return compose(plugins, Defaults([], None), Streams(0)) if plugins else None


def _make(folder: Path, name: str, options: Mapping[str, Any]) -> Any:
    owner = f"{folder} has modules that plugin '{name}' put in"
    if option_values.CODE not in options and name not in {**catalog.installed(), **uninstalled.handed()}:
        raise RunError(
            f"{owner}, and no plugin of that name is installed: install its package, or hand its class to regkit.load by "
            "plugins=[...]."
        )
    try:
        return catalog.make(name, options)
    except PluginError as error:
        raise RunError(f"{owner}, and cannot be built again: {error}") from None


def _others(folder: Path, tasks: Sequence[Task]) -> list[Task]:
    """Make the tasks of a checkpoint beside these, without their data."""
    names = {task.name for task in tasks}
    return [each.task(name) for name, each in descriptions(folder).items() if name not in names]


def _state(folder: Path, model: MultitaskModel, plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Collect the state of a model with plugins' modules from a checkpoint, and check that it is whole."""
    path = folder / checkpoint.BUILT
    try:
        stored = load_tensors(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from None
    homes, owners = model.built.homes if model.built else {}, _listed(recorded(folder))
    kept = {name: plain[home] for name, home in homes.items() if home in plain} | stored
    wanted = model.state_dict()
    for name, like in wanted.items():
        if said := _wrong(kept.get(name), like):
            raise RunError(f"{folder}: the tensor '{name}' of {owners} {said}; maybe another version made the run.")
    if left := [name for name in stored if name not in wanted and not _of_another_task(folder, model, name)]:
        raise RunError(
            f"{folder} has the tensor '{left[0]}', which {owners} does not put in; maybe another version made the run."
        )
    return {name: kept[name] for name in wanted}


def _wrong(value: Tensor | None, like: Tensor) -> str:
    """Say why a tensor of a checkpoint does not fit the model; nothing if it does."""
    if value is None:
        return "is missing"
    if value.shape != like.shape or value.dtype != like.dtype:
        was, now = (f"{list(each.shape)} {each.dtype}".replace("torch.", "") for each in (value, like))
        return f"is {was} instead of {now}"
    finite = not value.is_floating_point() or bool(value.isfinite().all())
    return "" if finite else "has numbers that are not finite"


def _of_another_task(folder: Path, model: MultitaskModel, name: str) -> bool:
    """Whether a tensor belongs to a task of the run that the model is not asked about, by its name."""
    return bool((checkpoint.saved_forms(folder).keys() - model.heads.keys()) & set(name.split(".")))


def _listed(plugins: Recorded) -> str:
    return " and ".join(f"plugin '{name}'" for name in plugins) or "no plugin"
