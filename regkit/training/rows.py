"""Rows: the gradients of several tasks as the rows of one tensor."""

import torch
from torch import Tensor

from regkit.base.memory import Memory
from regkit.model import MultitaskModel


def room_for_gradients(model: MultitaskModel, rows: int, memory: Memory) -> Tensor:
    """Make `[rows, parameters]` for gradients of the shared parameters, in memory that is kept.

    It is not filled yet.
    """
    return memory.empty((rows, sum(each.numel() for each in model.shared_parameters())), next(model.parameters()))


def take_gradient(model: MultitaskModel, row: Tensor) -> None:
    """Move the gradient of the shared parameters out of `.grad` into a row; 0 where a parameter has none."""
    for parameter, part in _parts(model, row):
        if parameter.grad is None:
            part.zero_()
        else:
            part.copy_(parameter.grad.flatten())
        parameter.grad = None


def give_gradient(model: MultitaskModel, row: Tensor) -> None:
    """Put a row back into the shared parameters' `.grad`, as views of it."""
    for parameter, part in _parts(model, row):
        parameter.grad = part.view(parameter.shape)


def _parts(model: MultitaskModel, row: Tensor) -> list[tuple[torch.nn.Parameter, Tensor]]:
    parameters = list(model.shared_parameters())
    return list(zip(parameters, torch.split(row, [each.numel() for each in parameters]), strict=True))
