"""State: where a run is, and putting weights, optimizer and plugins back to where they were."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from regkit.base.errors import RunError
from regkit.distributed.sharding import like
from regkit.model import MultitaskModel


@dataclass
class Position:
    """Where a run is: all that a checkpoint needs beside weights, optimizer and plugin state."""

    stage: int = 0
    step: int = 0  # updates done in the stage
    seen: dict[str, int] = field(default_factory=dict)  # batches that each task has given in the stage
    evaluated: int = -1  # updates that were done when the dev splits were last scored
    skipped: int = 0  # updates skipped in a row, for numbers that were not finite
    ended: bool = False  # the stage ends here, whatever its length
    budget: int | None = None  # most tokens in a micro-batch, where fewer than the trainer's were found to fit


def put_back(
    state: Mapping[str, Any],
    model: MultitaskModel,
    optimizer: torch.optim.Optimizer,
    plugins: Mapping[str, Any],
    *,
    in_parts: bool,
) -> None:
    """A state of a trainer, with the weights of its model; RunError names the part that cannot be taken in.

    Its tensors are whole, or `in_parts` where those are that they replace.
    """
    with _understood("the weights"):
        model.load_state_dict(like(state["model"], model.state_dict()))  # `prepare` may have changed them
    with _understood("the optimizer"):
        optimizer.load_state_dict(in_place(state["optimizer"], optimizer))
        for parameter, values in optimizer.state.items():
            for name, value in values.items():  # torch looks at no shape, and a kernel may read beyond a tensor
                if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                    raise ValueError(f"{name} has shape {list(value.shape)} instead of {list(parameter.shape)}")
    for name, value in state["plugins"].items():
        with _understood(f"plugin '{name}'"):
            plugin = plugins[name]
            plugin.load_state_dict(like(value, plugin.state_dict()) if in_parts else value)


@contextmanager
def _understood(part: str) -> Iterator[None]:
    """Whatever a part of the run makes of a state that is not its own is a RunError in its name."""
    try:
        yield
    except Exception as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[-1].strip()
        raise RunError(f"the checkpoint cannot be resumed from: {part}: {reason.rstrip('.')}.") from error


def in_place(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimizer, in parts where its parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found = {
        number: like(values, dict.fromkeys(values, parameters[number])) for number, values in state["state"].items()
    }
    return {**state, "state": found}


def versions(model: MultitaskModel) -> list[int]:
    """A number for each parameter that grows with every change of its values."""
    return [parameter._version for parameter in model.parameters()]
