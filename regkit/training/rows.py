"""Rows: the gradients of several tasks as the rows of one tensor."""

import torch
from torch import Tensor

from regkit.distributed.sharding import is_part, own_part, part_of
from regkit.model import MultitaskModel


def room_for_gradients(model: MultitaskModel, rows: int) -> Tensor:
    """`[rows, parameters]`, not filled yet, for the gradients of the shared parameters."""
    return next(model.parameters()).new_empty(rows, sum(parameter.numel() for parameter in model.shared_parameters()))


def take_gradient(model: MultitaskModel, row: Tensor) -> None:
    """Move the gradient of the shared parameters out of `.grad` into a row; 0 where a parameter has none.

    Of a gradient in parts each process moves its own, and the rows of all of them add up to the whole.
    """
    parameters = list(model.shared_parameters())
    for parameter, part in zip(parameters, torch.split(row, [p.numel() for p in parameters]), strict=True):
        if parameter.grad is None:
            part.zero_()
        elif is_part(parameter.grad):
            own_part(part.zero_().view(parameter.shape), parameter).copy_(parameter.grad.to_local())  # type: ignore[attr-defined]
        else:
            part.copy_(parameter.grad.flatten())
        parameter.grad = None


def give_gradient(model: MultitaskModel, row: Tensor) -> None:
    """The opposite of `take_gradient`."""
    parameters = list(model.shared_parameters())
    for parameter, part in zip(parameters, torch.split(row, [p.numel() for p in parameters]), strict=True):
        gradient = part.view(parameter.shape)
        parameter.grad = part_of(gradient, parameter) if is_part(parameter) else gradient
