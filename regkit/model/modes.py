"""Modes: run a model in training or evaluation mode, in float32 or bf16."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """The model in training or evaluation mode; every module is left in the mode it was found in."""
    found = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in found:
            module.training = was


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Run in bf16 where it is asked for; float32 is left as it is."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16)
