"""Modes: run a model in training or evaluation mode, in float32 or bf16."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from regkit.model.walk import modules_of


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put the model in training or evaluation mode, and each module back in its own mode afterwards."""
    found = [(module, module.training) for module in modules_of(model)]
    if any(was is not training for _, was in found):  # to set an attribute of a module takes longer than to read it
        model.train(training)
    try:
        yield
    finally:
        for module, was in found:
            if module.training is not was:
                vars(module)["training"] = was  # torch's own way to set an attribute takes ten times as long


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Compute in bf16 if `precision` is bf16; otherwise change nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)


def in_full(module: nn.Module, inputs: Tensor) -> Tensor:
    """Call a module in float32 also within `autocast`, which would round its output to three digits."""
    kind = inputs.device.type
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            return in_full(module, inputs.float())
    found: Tensor = module(inputs)
    return found
