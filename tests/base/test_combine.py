"""Combine: long rows are multiplied with little rounding, and added up in the memory of the first."""

import pytest
import torch

from regkit import inner_products, weighted_sum
from regkit.base.combine import BLOCK


@pytest.mark.parametrize("columns", [1, 7, BLOCK, BLOCK + 5])
def test_a_weighted_sum_is_the_product_bit_for_bit_in_the_first_row(columns: int) -> None:
    rows = torch.randn(3, columns, generator=torch.Generator().manual_seed(columns))
    weights = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    wanted, rest = weights.float() @ rows, rows[1:].clone()
    found = weighted_sum(rows, weights)
    assert torch.equal(found, wanted)
    assert found.data_ptr() == rows.data_ptr()
    assert torch.equal(rows[1:], rest)


def test_inner_products_of_long_rows_are_rounded_little() -> None:
    rows = torch.randn(2, 8 * BLOCK + 5, generator=torch.Generator().manual_seed(0)).abs()
    wanted = rows.double() @ rows.double().T
    torch.testing.assert_close(inner_products(rows), wanted, rtol=2e-5, atol=0.0)
    assert not torch.allclose((rows @ rows.T).double(), wanted, rtol=2e-5, atol=0.0)
