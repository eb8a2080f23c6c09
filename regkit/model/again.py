"""Again: compute a cheap function a second time in the backward pass.

Only its argument is kept until then. Of a feed-forward network torch keeps the widest hidden states twice, before and after
the activation (Chen et al., 2016).
"""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from regkit.model.plain import is_transformed

Function = Callable[[Tensor], Tensor]


def called_again(after: Function, cheap: Function, argument: Tensor) -> Tensor:
    """Compute `after(cheap(argument))`, with the same results and gradients, bit for bit.

    What `after` keeps of its argument is computed again when it is asked for: less memory, and one more call of `cheap`.
    """
    between = cheap(argument)
    if not between.requires_grad or is_transformed():
        return after(between)
    detached, version = argument.detach(), between._version  # `after` may change it in place
    seen = weakref.ref(between)  # the graph keeps `pack`

    def pack(kept: Tensor) -> Tensor | None:
        own = seen()
        return None if own is not None and own._version == version and kept.is_set_to(own) else kept

    def unpack(kept: Tensor | None) -> Tensor:
        if kept is not None:
            return kept
        with torch.no_grad():
            return cheap(detached)

    with saved_tensors_hooks(pack, unpack):
        return after(between)
