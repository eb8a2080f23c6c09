"""Memory: a combination of rows is made in the memory of the rows."""

import pytest
import torch

from regkit import weighted_sum
from regkit.base.memory import BLOCK


@pytest.mark.parametrize("columns", [1, 7, BLOCK, BLOCK + 5])
def test_a_weighted_sum_is_the_product_bit_for_bit_in_the_first_row(columns: int) -> None:
    rows = torch.randn(3, columns, generator=torch.Generator().manual_seed(columns))
    weights = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    wanted, rest = weights.float() @ rows, rows[1:].clone()
    found = weighted_sum(rows, weights)
    assert torch.equal(found, wanted)
    assert found.data_ptr() == rows.data_ptr()
    assert torch.equal(rows[1:], rest)
