"""Attention: dropout on the CPU gives the numbers of plain operations, and keeps little of them."""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from regkit.model.attention import attend
from regkit.model.dropout import dropout

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float, float | None], Tensor]

TEXTS, LONGEST, HEADS, WIDTH = 3, 9, 2, 8
CASES = list(product([torch.float32, torch.bfloat16], [None, 0.3], [False, True], [LONGEST, 1]))


def plainly(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float, scale: float | None) -> Tensor:
    """Attend by operations of torch."""
    scores = query @ key.transpose(-1, -2)
    scores = scores / math.sqrt(query.shape[-1]) if scale is None else scores * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return dropout(scores.softmax(-1), rate) @ value


def leaves(queries: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(queries)
    return [torch.randn(TEXTS, size, WIDTH, generator=random).requires_grad_() for size in (queries, LONGEST, LONGEST)]


def by_head(given: list[Tensor]) -> list[Tensor]:
    return [each.unflatten(2, (HEADS, -1)).transpose(1, 2) for each in given]


@pytest.mark.parametrize(("dtype", "scale", "masked", "queries"), CASES, ids=str)
def test_attention_with_dropout_is_that_of_plain_operations_bit_for_bit(
    dtype: torch.dtype, scale: float | None, masked: bool, queries: int
) -> None:
    """And so are its gradients; under autocast, queries and keys may differ in their type."""
    given = leaves(queries)
    mask = (torch.arange(LONGEST) < torch.tensor([[9], [4], [5]]))[:, None, None] if masked else None

    def found(attend: Attend) -> list[Tensor]:
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            query, key, value = by_head(given)
            output = attend(query, key.to(dtype), value, mask, 0.2, scale)
        return [output, *torch.autograd.grad(output.float().square().sum(), given)]

    for one, other in zip(found(attend), found(plainly), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("trained", [(0, 1, 2), (0,), (1, 2)], ids=str)
def test_the_gradient_of_a_gradient_is_that_of_plain_operations(trained: tuple[int, ...]) -> None:
    """As in penalties on the gradient; some of the inputs may need none."""
    given = [each.detach().requires_grad_(number in trained) for number, each in enumerate(leaves(LONGEST))]
    needed = [given[number] for number in trained]

    def found(attend: Attend) -> list[Tensor]:
        torch.manual_seed(3)
        output = attend(*by_head(given), None, 0.2, None)
        first = torch.autograd.grad(output.square().sum(), needed, create_graph=True)
        return [*first, *torch.autograd.grad(sum(each.square().sum() for each in first), needed)]

    torch.testing.assert_close(found(attend), found(plainly))


def test_of_a_pair_of_tokens_a_weight_and_a_byte_are_kept() -> None:
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        attend(*by_head(leaves(LONGEST)), None, 0.2)
    pairs = TEXTS * HEADS * LONGEST * LONGEST
    assert sorted(sizes) == sorted([*[TEXTS * LONGEST * WIDTH * 4] * 3, pairs * 4, pairs])
