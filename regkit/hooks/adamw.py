"""AdamW: torch's optimizer, without importing torch's compiler (Loshchilov and Hutter, 2019)."""

from inspect import unwrap

import torch


class AdamW(torch.optim.AdamW):
    """Step as torch's AdamW does, bit for bit. Not for `torch.compile`.

    torch wraps these methods to keep its compiler out of them, and a wrapper imports the compiler, to tell it so, when it is
    first called. That takes a second of each start, and some 70 MB of memory.
    """

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
