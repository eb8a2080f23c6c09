"""Again: what is kept for the backward pass, and that results stay."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regkit.model.again import called_again
from regkit.model.dropout import Dropout
from regkit.model.padding import put_rows


def test_an_activation_that_is_computed_again_is_not_kept_and_changes_no_bit() -> None:
    torch.manual_seed(0)
    down, hidden, calls = nn.Linear(16, 4), torch.randn(5, 16, requires_grad=True), []

    def activation(argument: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return F.gelu(argument)

    found = []
    for output in (down(F.gelu(hidden)), called_again(down, activation, hidden)):
        first = torch.autograd.grad(output.square().sum(), [hidden, *down.parameters()], create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), [hidden, *down.parameters()], allow_unused=True)
        found.append([output, *first, *[each for each in second if each is not None]])
    assert all(map(torch.equal, *found))
    assert calls[0]
    assert calls[1:]
    assert not any(calls[1:])


def test_an_activation_that_is_changed_in_place_is_kept_as_it_was_changed() -> None:
    hidden, weight = torch.randn(5, 16, requires_grad=True), torch.ones(4, 16, requires_grad=True)
    output = called_again(lambda active: F.linear(active.mul_(2), weight), F.gelu, hidden)
    (gradient,) = torch.autograd.grad(output.sum(), weight)
    assert torch.allclose(gradient, (2 * F.gelu(hidden)).sum(0).expand(4, 16))


def test_padding_keeps_no_rows_and_has_a_gradient_of_a_gradient() -> None:
    rows, slots = torch.randn(3, 2, dtype=torch.float64, requires_grad=True), torch.tensor([0, 2, 3])
    assert torch.equal(put_rows(rows, slots, 5), torch.zeros(5, 2).double().index_copy(0, slots, rows))
    padded = put_rows(rows, slots, 5)
    (place,) = padded.grad_fn.saved_tensors  # type: ignore[union-attr]
    assert torch.equal(place, slots)
    assert torch.autograd.gradgradcheck(lambda each: put_rows(each.square(), slots, 5), rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_bytes_and_its_gradient_is_the_mask(dtype: torch.dtype) -> None:
    values = torch.ones(40, 7, dtype=dtype, requires_grad=True)
    output = Dropout(0.5)(values)
    (mask,) = output.grad_fn.saved_tensors  # type: ignore[union-attr]
    assert mask.element_size() == 1
    (gradient,) = torch.autograd.grad(output.sum(), values, create_graph=True)
    assert torch.equal(gradient, output)
