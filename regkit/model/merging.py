"""Merging: let plugins put modules into a plain model, and merge these into its own weights."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from regkit.base.errors import PluginError
from regkit.base.failures import last_line, ran_out
from regkit.model.built import Built, Form
from regkit.model.multitask import MultitaskModel


def build(model: MultitaskModel, plugins: Mapping[str, Mapping[str, Any]], change: Callable[[], object]) -> None:
    """Let plugins change a plain model by `change`, and note in the model what it was and what they froze."""
    modules, before = types_of(model), model.state_dict(keep_vars=True)
    hooked = _hooked(model)
    change()
    homes = {id(tensor): name for name, tensor in reversed(before.items())}
    after = model.state_dict(keep_vars=True)
    model.built = Built(
        plugins,
        modules,
        forms_of(before),
        {name: homes[id(tensor)] for name, tensor in after.items() if id(tensor) in homes},
        frozenset(_hooked(model) - hooked),
    )
    model.frozen = frozenset(name for name, weight in model.named_parameters() if not weight.requires_grad)


@torch.no_grad()
def merge(model: MultitaskModel) -> MultitaskModel:
    """Make a copy in evaluation mode, with plugins' modules merged into the weights below them.

    Two kinds can be: parametrizations of torch, and modules whose method `merged` returns the plain module that computes the
    same. All other tensors are those of the model itself, so the copy takes little memory. Raises PluginError for a module
    that cannot be copied or merged.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    with _blamed("a copy of the model"):
        found = copy.deepcopy(model, shared).eval()
    for name, module in list(found.named_modules()):
        if parametrize.is_parametrized(module):
            with _blamed(f"the parametrization of '{name}'"):
                _settle(module)
    for name, module in list(found.named_modules()):
        if callable(merged := getattr(module, "merged", None)):
            with _blamed(f"merged of the module '{name}'"):
                found.set_submodule(name, merged().eval())
    return found


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """Turn any error of a plugin's module into a PluginError; running out of memory is no fault."""
    try:
        yield
    except Exception as error:
        if ran_out(error):
            raise
        raise PluginError(f"{what} failed, so that no checkpoint can be written: {last_line(error)}.") from error


def _settle(module: nn.Module) -> None:
    """Replace parametrized tensors by their values.

    `remove_parametrizations` of torch would write into the tensors below, and change the class that copies of a module share.
    """
    lists: Any = module.parametrizations
    values = {name: getattr(module, name).detach() for name in lists}
    trained = {name for name in lists if list(lists[name].parameters(recurse=False))}
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]  # it was a class of torch for this module alone
    for name, value in values.items():
        if name in trained:
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))
        else:
            module.register_buffer(name, value)


def without_plugins(model: MultitaskModel) -> MultitaskModel:
    """Make a model that needs no plugins and computes the same.

    If modules cannot be merged, it is the model itself.
    """
    merged = merge(model) if model.built else model
    if merged is model or not is_plain(merged):
        return model
    merged.built = None
    return merged


def is_plain(merged: MultitaskModel, part: str = "") -> bool:
    """Whether a merged model, or a part of it, has the form that it had before plugins.

    A part is `encoder`, or a head such as `heads.sst`.
    """
    built = merged.built
    if built is None:
        return True
    modules, tensors = types_of(merged), forms_of(merged.state_dict())
    return (
        _inside(modules, part) == _inside(built.modules, part)
        and _inside(tensors, part) == _inside(built.tensors, part)
        and not _inside(dict.fromkeys(built.hooked), part)
    )


def plain_state(model: MultitaskModel, merged: MultitaskModel) -> dict[str, Tensor]:
    """Collect the tensors of the plain model, from a model and the same merged.

    A head that is not plain even so is left out. An encoder that is not has the weights below the plugins' modules; one that
    a plugin has replaced is 0.
    """
    if model.built is None:
        return model.state_dict()
    values, merged_values = model.state_dict(), merged.state_dict()
    below = {home: values[name] for name, home in reversed(list(model.built.homes.items()))}
    parts = {name: part_of(name) for name in model.built.tensors}
    plain = {part: is_plain(merged, part) for part in set(parts.values())}
    found = {}
    for name, part in parts.items():
        if plain[part]:
            found[name] = merged_values[name]
        elif part == "encoder":
            size, dtype = model.built.tensors[name]
            found[name] = below[name] if name in below else torch.zeros(size, dtype=dtype)
    return found


def part_of(name: str) -> str:
    """Name the part of a model that a tensor belongs to: `encoder`, or `heads.sst`."""
    return ".".join(name.split(".")[: 1 if name.startswith("encoder.") else 2])


def types_of(model: nn.Module) -> dict[str, str]:
    """List the type of each module by name."""
    return {name: f"{type(module).__module__}.{type(module).__qualname__}" for name, module in model.named_modules()}


def forms_of(state: Mapping[str, Any]) -> dict[str, Form]:
    """List the shape and type of each tensor by name; what a module keeps beside tensors has none."""
    return {name: (value.shape, value.dtype) for name, value in state.items() if isinstance(value, Tensor)}


def _hooked(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if module._forward_hooks or module._forward_pre_hooks}


def _inside(found: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Select what is in a part of a model; all if none is named."""
    return {name: value for name, value in found.items() if not part or name == part or name.startswith(f"{part}.")}
