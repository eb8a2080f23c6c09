"""Plain: tell where modules and torch compute as they usually do.

There, a shortcut to the same numbers may be taken.
"""

from collections.abc import Sequence

import torch
from torch import nn


def is_plain(*modules: nn.Module, kinds: Sequence[type[nn.Module]] = (nn.Linear,)) -> bool:
    """Whether modules do what one of these types does, and nothing else: none was replaced, or has a hook."""
    return all(type(each) in kinds and "forward" not in vars(each) and not _has_hooks(each) for each in modules)


def is_transformed() -> bool:
    """Whether `torch.func` transforms what is computed now.

    It asks more of autograd functions and hooks than they have.
    """
    return bool(torch._C._are_functorch_transforms_active())


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
