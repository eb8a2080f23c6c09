"""Sharding: each process holds a part of every layer's weights, and a whole layer only while it computes (FSDP2).

Zhao et al., 2023, arXiv 2304.11277, as torch's `fully_shard`. A weight in parts is a `DTensor`: it has the shape and the
values of the whole, and whatever is computed from it is what the whole would give. Embeddings, pooler and heads stay whole
in every process; so do activations, which `embed` and `encode` take and give as ever.
"""

import copy
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

FSDP_NAMES = ("__composable_api", "_is_fsdp", "_fsdp")  # how the attributes begin that torch gives to a sharded module
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_load_state_dict_post_hooks")


def is_part(tensor: object) -> bool:
    """Whether this process holds only a part of a tensor."""
    module = sys.modules.get("torch.distributed.tensor")  # its import takes most of a second
    return module is not None and isinstance(tensor, module.DTensor)


def in_parts(model: nn.Module) -> bool:
    """Whether some of a model's weights are in parts, one in each process: for plugins that need all of them at once."""
    return any(is_part(parameter) for parameter in model.parameters())


def shard(layers: Iterable[nn.Module], device: torch.device, count: int) -> None:
    """Deal out the weights of each layer to so many processes, all of which have to be here, on this device."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import share_comm_ctx

    mesh = init_device_mesh(device.type, (count,))
    share_comm_ctx([_sharded(layer, mesh) for layer in layers])


def _sharded(layer: nn.Module, mesh: Any) -> Any:
    from torch.distributed.fsdp import fully_shard

    wrapped: Any = fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    wrapped.set_gradient_divide_factor(1.0)  # summed, as everywhere else in regkit, not averaged
    wrapped.set_force_sum_reduction_for_comms(True)
    return wrapped


def copy_layers(layers: Iterable[nn.Module], memo: dict[int, Any]) -> None:
    """Let `copy.deepcopy` with this memo copy sharded layers, which torch's own refuses: in parts again, one at a time."""
    from torch.distributed.fsdp import share_comm_ctx

    copies = []
    for layer in layers:
        parts: list[Any] = list(filter(is_part, layer.parameters()))
        for part in parts:
            memo[id(part)] = nn.Parameter(part.detach().full_tensor(), part.requires_grad)
        if parts:
            memo[id(layer)] = _sharded(_plain(layer, memo), parts[0].device_mesh)
            copies.append(memo[id(layer)])
    share_comm_ctx(copies)


def _plain(layer: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy of a sharded layer as the module that it was before."""
    plain: nn.Module = object.__new__(type(layer).__bases__[1])  # the first is FSDP's own
    for name, value in vars(layer).items():
        if not name.startswith(FSDP_NAMES):
            plain.__dict__[name] = OrderedDict() if name in HOOKS else copy.deepcopy(value, memo)
    return plain


def whole(value: Any, keep: Callable[[Tensor], Tensor | None] = lambda tensor: tensor) -> Any:
    """The same nesting of dicts, lists and values, every tensor that is in parts put together, and what `keep` makes of it.

    All processes have to be here.
    """
    if is_part(value):
        return keep(value.full_tensor())
    if isinstance(value, Mapping):
        return {key: whole(item, keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole(item, keep) for item in value]
    return value


def like(value: Any, other: Any) -> Any:
    """The same nesting, with this process's part of each whole tensor where `other` has a tensor in parts."""
    if is_part(other) and isinstance(value, Tensor) and value.shape == other.shape:
        return part_of(value, other)
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return {key: like(item, other.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(other, list | tuple):
        return [like(*pair) for pair in zip(value, other, strict=False)] + value[len(other) :]
    return value


def part_of(value: Tensor, other: Any) -> Tensor:
    """A whole tensor, the same in every process, in parts like those of another of its shape."""
    from torch.distributed.tensor import distribute_tensor

    if is_part(value):
        return value
    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def own_part(value: Tensor, other: Any) -> Tensor:
    """This process's part of a whole tensor, as a view, where the other's is."""
    parts = value.chunk(other.device_mesh.size())
    rank: int = other.device_mesh.get_local_rank()
    return parts[rank] if rank < len(parts) else value[:0]


@torch.no_grad()
def fill(parameter: Tensor, draw: Callable[[Tensor], object]) -> None:
    """Draw the values of a parameter; where it is in parts, the same as if it were whole."""
    if not is_part(parameter):
        draw(parameter)
        return
    drawn = torch.empty(parameter.shape, device=parameter.device, dtype=parameter.dtype)
    draw(drawn)
    parameter.copy_(part_of(drawn, parameter))


def total_norm(gradients: Iterable[Tensor | None]) -> Tensor:
    """The L2 norm of all gradients together, a scalar; where some are in parts, all processes have to be here."""
    found = [gradient for gradient in gradients if gradient is not None]
    parts = [gradient for gradient in found if is_part(gradient)]
    if not parts:
        return get_total_norm(found)
    rest = [gradient for gradient in found if not is_part(gradient)]
    return get_total_norm([whole(get_total_norm(parts)), *rest])


@contextmanager
def agreed() -> Iterator[None]:
    """Inside, tensors in parts and whole ones can be computed with together: all processes do the same with the same."""
    if "torch.distributed.tensor" not in sys.modules:
        yield
        return
    from torch.distributed.tensor.experimental import implicit_replication

    with implicit_replication(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found a non-scalar tensor with numel=1")  # which is as meant
        yield
