"""Built: what plugins made of a plain model, and what it was.

A plain model has an encoder and heads as regkit makes them, which is the form that a checkpoint has for other programs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

Form = tuple[torch.Size, torch.dtype]


@dataclass(frozen=True)
class Built:
    """What plugins made of a plain model: who they are, and what the model was."""

    plugins: Mapping[str, Mapping[str, Any]]  # those that answer `build`, each with its options, in order
    modules: Mapping[str, str]  # of the plain model: the type of each module by name
    tensors: Mapping[str, Form]  # of the plain model: the form of each tensor of its state by name
    homes: Mapping[str, str]  # of each tensor of the state now: its name in the plain model, if it was there
    hooked: frozenset[str]  # names of modules to which hooks of torch were added
