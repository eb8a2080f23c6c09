"""Aligned-MTL against a singular value decomposition of the gradients, and torchjd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from regkit_plugins.aligned_mtl import AlignedMTL
from torch import Tensor

from tests.plugins.rows import EDGES, PATIENT, matrix

LENGTHS = {"min": torch.min, "median": torch.median, "rmse": lambda values: values.square().mean().sqrt()}


def by_decomposition(rows: Tensor, scale: str) -> Tensor:
    """The sum of the rows of U V^T times a length, in the directions that the rows have."""
    left, values, right = torch.linalg.svd(rows, full_matrices=False)
    there = values.square() > values.square().max() * len(rows) * torch.finfo(rows.dtype).eps
    if not there.any():
        return rows.sum(0)
    aligned = left[:, there] @ right[there]
    return (LENGTHS[scale](values[there]) * aligned).sum(0)


@settings(PATIENT, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(2, 5),
    edge=st.sampled_from(list(EDGES)),
    scale=st.sampled_from(list(LENGTHS)),
)
def test_the_rows_become_orthogonal_and_equally_long(seed: int, count: int, edge: str, scale: str) -> None:
    rows = matrix(seed, count, edge)
    found, wanted = AlignedMTL(scale).combine_gradients(rows.clone()), by_decomposition(rows, scale)  # type: ignore[arg-type]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6 * float(rows.norm()))


@pytest.mark.parametrize("scale", LENGTHS)
@pytest.mark.parametrize("edge", EDGES)
def test_the_result_is_that_of_torchjd(edge: str, scale: str) -> None:
    aggregation = pytest.importorskip("torchjd.aggregation")
    for seed in range(5):
        rows = matrix(seed, 2 + seed % 4, edge)
        theirs = len(rows) * aggregation.AlignedMTL(scale_mode=scale)(rows)
        found = AlignedMTL(scale).combine_gradients(rows.clone())  # type: ignore[arg-type]
        torch.testing.assert_close(found, theirs, rtol=1e-3, atol=1e-6 * float(rows.norm()))


def test_orthogonal_gradients_of_one_length_are_summed() -> None:
    rows = 3 * torch.linalg.qr(torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0].T
    for scale in LENGTHS:
        torch.testing.assert_close(AlignedMTL(scale).combine_gradients(rows.clone()), rows.sum(0))  # type: ignore[arg-type]


@pytest.mark.parametrize("edge", EDGES)
def test_in_float32_rounding_makes_no_direction(edge: str) -> None:
    for seed in range(10):
        rows = matrix(seed, 2 + seed % 4, edge, width=50)
        found = AlignedMTL().combine_gradients(rows.float())
        assert found.isfinite().all()
        if edge not in ("with_large", "with_small"):  # whose least value is below the rounding of the largest
            torch.testing.assert_close(
                found.double(), by_decomposition(rows, "min"), rtol=0, atol=1e-3 * float(rows.norm())
            )
