"""AdamW: torch's steps and torch's state."""

import torch
from torch import Tensor

from regkit.hooks.adamw import AdamW


def moved(kind: type[torch.optim.AdamW]) -> list[Tensor]:
    """Step, save, restore into another optimizer, add a group and step again. Returns the weights."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(40, 3, generator=generator, requires_grad=True) for _ in range(2))
    optimizer = kind([first], lr=0.1, weight_decay=0.1, fused=True)
    for _ in range(2):
        first.grad = torch.randn(40, 3, generator=generator)
        optimizer.step()
        optimizer.zero_grad()
        assert first.grad is None
    other = kind([first], lr=1.0)
    other.load_state_dict(optimizer.state_dict())
    other.add_param_group({"params": [second], "lr": 0.3})
    for weight in (first, second):
        weight.grad = torch.randn(40, 3, generator=generator)
    loss = other.step(lambda: first.sum())  # the closure is given gradients, and the step is not
    assert loss is not None
    assert loss.requires_grad
    assert first.is_leaf
    return [first.detach(), second.detach(), *other.state[first].values(), *other.state[second].values()]


def test_its_steps_and_state_are_those_of_torch_bit_for_bit() -> None:
    for ours, theirs in zip(moved(AdamW), moved(torch.optim.AdamW), strict=True):
        assert torch.equal(ours, theirs)
