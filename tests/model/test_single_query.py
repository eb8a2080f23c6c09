"""Single query: what [CLS] attends to is that of attention with a key and a value for each token."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from regkit.model.attention import SelfAttention
from regkit.tasks.batch import Batch

WIDTH, HEADS = 24, 4


class Called(nn.Linear):
    """A layer that a plugin might put in: its weights alone do not say what it computes."""

    calls = 0

    def forward(self, values: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(values)


def packed(lengths: list[int]) -> Batch:
    return Batch.pack([np.arange(each) for each in lengths], [np.zeros(each) for each in lengths])


def twins(rate: float) -> tuple[SelfAttention, SelfAttention]:
    """Attention, and the same with keys and values from layers that have to be called."""
    torch.manual_seed(0)
    ours = SelfAttention(WIDTH, HEADS, rate).double()
    theirs = SelfAttention(WIDTH, HEADS, rate).double()
    theirs.key, theirs.value = Called(WIDTH, WIDTH).double(), Called(WIDTH, WIDTH).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize(("lengths", "training"), list(product([[5, 5, 5], [7, 2, 1]], [False, True])), ids=str)
def test_it_attends_as_with_keys_and_values_of_all_tokens(lengths: list[int], training: bool) -> None:
    """Under the same dropout, and with the same gradients."""
    batch, found = packed(lengths), []
    hidden = torch.randn(sum(lengths), WIDTH, dtype=torch.float64).requires_grad_()
    for module in twins(rate=0.3):
        torch.manual_seed(1)
        output = module.train(training)(hidden, batch, batch.starts)
        found.append([output, *torch.autograd.grad(output.square().sum(), [hidden, *module.parameters()])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_no_linear_layer_is_computed_for_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, linear = [], nn.functional.linear
    monkeypatch.setattr(nn.functional, "linear", lambda *given: rows.append(len(given[0])) or linear(*given))
    batch = packed([30] * 8)
    for module, most in zip(twins(rate=0.0), [8, 240], strict=True):
        rows.clear()
        module(torch.randn(240, WIDTH, dtype=torch.float64), batch, batch.starts)
        assert max(rows) == most


@pytest.mark.parametrize("name", ["key", "value"])
def test_a_layer_that_was_replaced_or_has_a_hook_is_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, module, calls = packed([3, 2]), SelfAttention(WIDTH, HEADS, 0.0), []
    getattr(module, name).register_forward_hook(lambda *given: calls.append(given))
    module(torch.randn(5, WIDTH), batch, batch.starts)
    assert len(calls) == 1
    module = SelfAttention(WIDTH, HEADS, 0.0)
    monkeypatch.setattr(getattr(module, name), "forward", lambda values: calls.append(values) or values)
    module(torch.randn(5, WIDTH), batch, batch.starts)
    assert len(calls) == 2
    module.set_submodule(name, Called(WIDTH, WIDTH))
    module(torch.randn(5, WIDTH), batch, batch.starts)
    assert getattr(module, name).calls == 1
