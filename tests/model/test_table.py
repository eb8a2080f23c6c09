"""Tables of embeddings: the gradients are torch's own, and their memory is used again."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from regkit.model.table import Table

TOKENS = torch.tensor([[3, 1, 3], [0, 3, 1]])
VALUES = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


def go_back(table: nn.Embedding, tokens: Tensor = TOKENS) -> Tensor:
    """The gradient after one more backward pass."""
    (table(tokens) * VALUES).sum().backward()
    assert table.weight.grad is not None
    return table.weight.grad


@pytest.fixture
def table() -> Table:
    torch.manual_seed(0)
    return Table(6, 4)


def test_the_gradients_of_updates_and_micro_batches_are_those_of_torch_bit_for_bit(table: Table) -> None:
    plain = nn.Embedding(6, 4, _weight=table.weight.detach().clone())
    for _ in range(3):
        for each in (table, plain):
            each.zero_grad()
        for tokens in (TOKENS, TOKENS + 2):
            assert torch.equal(go_back(table, tokens), go_back(plain, tokens))


def test_a_gradient_takes_the_memory_of_the_one_before(table: Table) -> None:
    places = set()
    for _ in range(3):
        table.zero_grad()
        places.add(go_back(table).data_ptr())
    assert len(places) == 1


@pytest.mark.parametrize("part", [lambda gradient: gradient, lambda gradient: gradient.view(-1)[2:]])
def test_a_gradient_that_somebody_has_put_aside_stays_as_it_is(table: Table, part: object) -> None:
    aside = part(go_back(table))  # type: ignore[operator]
    before = aside.clone()
    table.zero_grad()
    go_back(table, TOKENS + 1)
    assert torch.equal(aside, before)


def test_a_gradient_that_is_asked_for_and_not_kept_leaves_the_weights_own_as_it_is(table: Table) -> None:
    before = go_back(table).clone()
    (found,) = torch.autograd.grad((table(TOKENS + 1) * VALUES).sum(), table.weight)
    assert torch.equal(table.weight.grad, before)
    assert not torch.equal(found, before)


def test_the_gradient_of_a_gradient_is_that_of_torch(table: Table) -> None:
    plain = nn.Embedding(6, 4, _weight=table.weight.detach().clone())
    found = []
    for each in (table, plain):
        (first,) = torch.autograd.grad(each(TOKENS).pow(3).sum(), each.weight, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), each.weight)[0])
    torch.testing.assert_close(*found)


def test_a_copy_of_the_model_has_no_memory_of_its_own(table: Table) -> None:
    go_back(table)
    assert copy.deepcopy(table).memory.kept is None


def test_several_gradients_at_once_are_those_of_torch_and_leave_no_trace(table: Table) -> None:
    plain = nn.Embedding(6, 4, _weight=table.weight.detach().clone())
    found = []
    for each in (table, plain):
        sums = (each(TOKENS) * VALUES).sum((1, 2))
        found.append(torch.autograd.grad(sums, each.weight, torch.eye(2), is_grads_batched=True)[0])
    assert torch.equal(*found)
    assert torch.equal(go_back(table), go_back(plain))


def test_torch_can_take_the_gradient_of_a_table_as_of_a_function(table: Table) -> None:
    def loss(weight: Tensor) -> Tensor:
        return torch.func.functional_call(table, {"weight": weight}, (TOKENS,)).pow(3).sum()

    expected = torch.autograd.grad(table(TOKENS).pow(3).sum(), table.weight)[0]
    assert torch.equal(torch.func.grad(loss)(table.weight.detach()), expected)


def test_two_backward_passes_at_the_same_time_have_memory_of_their_own(table: Table) -> None:
    def work(factor: int) -> set[float]:
        return {float(torch.autograd.grad((factor * table(TOKENS)).sum(), table.weight)[0].sum()) for _ in range(300)}

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, [1, 2, 3])) == [{24.0}, {48.0}, {72.0}]
