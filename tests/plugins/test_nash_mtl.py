"""Nash-MTL against the condition of its paper, another minimiser, and the bargain that no direction improves."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from regkit_plugins.nash_mtl import NashMTL, bargain
from scipy.optimize import minimize
from torch import Tensor

from tests.plugins.rows import EDGES, PATIENT, matrix

FULL = ["plain", "with_large", "with_small"]  # rows that are linearly independent


@settings(PATIENT, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 6))
def test_the_factors_solve_the_equation_of_the_paper(seed: int, count: int) -> None:
    rows = matrix(seed, count)
    products = rows @ rows.T
    found = bargain(products)
    assert (found > 0).all()
    torch.testing.assert_close(products @ found, 1 / found, rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", range(4))
def test_the_factors_are_those_of_another_minimiser(seed: int) -> None:
    rows = matrix(seed, 3)
    products = (rows @ rows.T).numpy()
    potential = minimize(
        lambda logs: np.exp(logs) @ products @ np.exp(logs) / 2 - logs.sum(),
        np.zeros(3),
        method="BFGS",
        options={"gtol": 1e-9},
    )
    np.testing.assert_allclose(bargain(torch.from_numpy(products)), np.exp(potential.x), rtol=1e-4)


def agreement(rows: Tensor, directions: Tensor) -> Tensor:
    """The sum of the logarithms of the tasks' gains, of directions of length 1."""
    return (directions @ rows.T / directions.norm(dim=1, keepdim=True)).clamp(min=1e-300).log().sum(1)


@settings(PATIENT, max_examples=20)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 5), edge=st.sampled_from(FULL))
def test_no_other_direction_is_a_better_bargain(seed: int, count: int, edge: str) -> None:
    rows = matrix(seed, count, edge)
    found = NashMTL().combine_gradients(rows.clone())
    nudges = torch.from_numpy(np.random.default_rng(seed).standard_normal((200, rows.shape[1]))) * found.norm()
    others = torch.cat([found + size * nudges for size in (0.01, 0.3)])
    assert float(agreement(rows, found[None])) >= float(agreement(rows, others).max()) - 1e-3


@pytest.mark.parametrize("edge", FULL)
def test_every_task_gains_the_same_share_whatever_the_length_of_its_gradient(edge: str) -> None:
    for seed in range(5):
        rows = matrix(seed, 3, edge)
        found = NashMTL().combine_gradients(rows.clone())
        other = NashMTL().combine_gradients(rows * torch.tensor([[1.0], [7.0], [0.1]], dtype=rows.dtype))
        torch.testing.assert_close(found / found.norm(), other / other.norm(), rtol=1e-4, atol=1e-6)


def test_orthogonal_gradients_of_one_length_are_summed() -> None:
    rows = 3 * torch.linalg.qr(torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0].T
    torch.testing.assert_close(NashMTL().combine_gradients(rows.clone()), rows.sum(0), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("edge", EDGES)
def test_in_float32_it_is_finite_and_no_longer_than_the_gradients_allow(edge: str) -> None:
    for seed in range(10):
        rows = matrix(seed, 2 + seed % 4, edge, width=50)
        found = NashMTL().combine_gradients(rows.float())
        assert found.isfinite().all()
        assert float(found.norm()) <= 1.001 * float(rows.norm())
        torch.testing.assert_close(
            found.double(), NashMTL().combine_gradients(rows), rtol=0, atol=2e-3 * float(rows.norm())
        )


def test_where_gradients_cancel_out_the_update_is_zero() -> None:
    rows = matrix(0, 2, "with_opposite")[:1].repeat(2, 1) * torch.tensor([[1.0], [-2.0]])
    assert float(NashMTL().combine_gradients(rows).norm()) < 1e-6 * float(rows.norm())


def test_it_is_that_of_torchjd_where_its_solver_is_installed() -> None:
    aggregation = pytest.importorskip("torchjd.aggregation")
    pytest.importorskip("cvxpy")
    for seed in range(5):
        rows = matrix(seed, 3)
        theirs = aggregation.NashMTL(n_tasks=3, optim_niter=100)(rows)
        ours = NashMTL().combine_gradients(rows.clone())
        torch.testing.assert_close(ours / ours.norm(), theirs / theirs.norm(), rtol=0, atol=1e-2)
