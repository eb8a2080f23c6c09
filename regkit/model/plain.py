"""Plain: tell where modules and torch compute as they usually do.

There, a shortcut to the same numbers may be taken.
"""

from collections.abc import Sequence

import torch
from torch import nn

PUT_IN = frozenset(("forward", "weight", "bias"))  # attributes that stand elsewhere in a module as torch makes it


def is_plain(*modules: nn.Module, kinds: Sequence[type[nn.Module]] = (nn.Linear,)) -> bool:
    """Whether modules do what one of these types does, and nothing else: none was replaced, or has a hook."""
    return is_own(*modules, kinds=kinds) and not any(map(has_hooks, modules))


def is_own(*modules: nn.Module, kinds: Sequence[type[nn.Module]]) -> bool:
    """Whether modules compute what one of these types does, whoever else may look at it by a hook.

    One with a plain tensor in the place of a weight does not.
    """
    return all(type(each) in kinds and PUT_IN.isdisjoint(vars(each)) for each in modules)


def is_transformed() -> bool:
    """Whether `torch.func` transforms what is computed now.

    It asks more of autograd functions and hooks than they have.
    """
    return bool(torch._C._are_functorch_transforms_active())


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody looks at what a module computes, or changes it, by a hook of torch."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
