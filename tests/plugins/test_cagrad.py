"""CAGrad against the dual of its program, a fine grid and directions drawn at random."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from regkit_plugins.cagrad import CAGrad, shares
from torch import Tensor

from tests.plugins.rows import EDGES, MATRICES, PATIENT, dual, matrix


def worst_inner_product(rows: Tensor, direction: Tensor) -> float:
    return float((rows @ direction).min())


@settings(PATIENT, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(2, 5),
    edge=st.sampled_from([name for name in EDGES if name != "all_zero"]),
    c=st.sampled_from([0.1, 0.4, 0.9]),
)
def test_cagrad_finds_the_best_direction_of_the_ball(seed: int, count: int, edge: str, c: float) -> None:
    """Held to the primal and the dual: a direction of the ball whose value is that of the best weights of many."""
    rows = matrix(seed, count, edge)
    mean = rows.mean(0)
    direction = torch.from_numpy(shares((rows @ rows.T).numpy(), c)) @ rows / count
    assert float((direction - mean).norm()) <= c * float(mean.norm()) * (1 + 1e-6) + 1e-12
    drawn = torch.from_numpy(np.random.default_rng(seed).dirichlet([0.4] * count, 2000))
    mixtures = torch.cat([drawn, torch.eye(count).double()])
    bound = float(dual(rows, mixtures, c).min())
    scale = float(mean.norm() * rows.norm(dim=1).max())
    if edge in ("with_zero", "with_opposite"):  # a mixture vanishes: no direction serves all
        return
    assert worst_inner_product(rows, direction) <= bound + 1e-6 * scale  # weak duality
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal((300, rows.shape[1])))
    others = mean + c * mean.norm() * noise / noise.norm(dim=1, keepdim=True)
    toward = mixtures @ rows
    others = torch.cat([others, mean[None], mean + c * mean.norm() * toward / toward.norm(dim=1, keepdim=True)])
    best = float((others @ rows.T).amin(1).max())
    assert worst_inner_product(rows, direction) >= best - 5e-3 * scale * (edge == "with_small") - 1e-5 * scale


@pytest.mark.parametrize("edge", ["plain", "with_equal", "with_large", "with_small"])
@pytest.mark.parametrize("c", [0.2, 0.7])
def test_cagrad_of_two_tasks_is_that_of_a_fine_grid(edge: str, c: float) -> None:
    for seed in range(10):
        rows = matrix(seed, 2, edge)
        share = torch.linspace(0, 1, 2001, dtype=torch.float64)
        grid = torch.stack([share, 1 - share], dim=1)
        values = dual(rows, grid, c)
        mixed, mean = grid[int(values.argmin())] @ rows, rows.mean(0)
        ours = CAGrad(c=c).combine_gradients(rows.clone()) / 2
        assert worst_inner_product(rows, ours) == pytest.approx(
            float(values.min()), abs=2e-3 * float(mean.norm() * rows.norm(dim=1).max())
        )
        if float(mixed.norm()) > 0.3 * float(mean.norm()):  # elsewhere its direction depends on the grid
            best = mean + c * mean.norm() * mixed / mixed.norm()
            torch.testing.assert_close(ours, best, rtol=0, atol=5e-3 * float(mean.norm()))


@PATIENT
@MATRICES
def test_cagrad_of_radius_0_is_the_sum(seed: int, count: int, edge: str) -> None:
    rows = matrix(seed, count, edge)
    assert torch.equal(CAGrad(c=0.0).combine_gradients(rows.clone()), rows.sum(0))
    near = CAGrad(c=1e-9).combine_gradients(rows.clone())
    torch.testing.assert_close(near, rows.sum(0), rtol=0, atol=1e-8 * (float(rows.norm()) + 1e-9))


def test_cagrad_serves_the_worst_off_task_better_than_the_sum_does() -> None:
    better = 0
    for seed in range(30):
        rows = matrix(seed, 3, "with_large" if seed % 2 else "plain")
        values = [worst_inner_product(rows, CAGrad(c=c).combine_gradients(rows.clone())) for c in (0.0, 0.3, 0.9)]
        assert values[0] <= values[1] + 1e-9
        assert values[1] <= values[2] + 1e-9
        better += values[0] < values[2] - 1e-3
    assert better > 20


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_cagrad_does_not_depend_on_the_scale_of_the_losses(scale: float) -> None:
    for seed in range(10):
        rows = matrix(seed, 4)
        ours = CAGrad().combine_gradients(rows * scale)
        torch.testing.assert_close(ours / scale, CAGrad().combine_gradients(rows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("edge", EDGES)
def test_cagrad_in_float32_stays_finite_and_in_the_ball(edge: str) -> None:
    for seed in range(20):
        rows = matrix(seed, 2 + seed % 4, edge, width=50).float()
        combined, whole = CAGrad(c=0.5).combine_gradients(rows.clone()), rows.sum(0)
        assert torch.isfinite(combined).all()
        assert float((combined - whole).norm()) <= 0.5 * float(whole.norm()) + 1e-5 * float(rows.norm())


def test_cagrad_is_that_of_torchjd_where_its_solver_is_installed() -> None:
    aggregation = pytest.importorskip("torchjd.aggregation")
    try:
        theirs = aggregation.CAGrad(c=0.4, norm_eps=0.0)
    except ImportError:
        pytest.skip("cvxpy is not installed")
    for seed in range(10):
        rows = matrix(seed, 2 + seed % 4)
        ours = CAGrad(c=0.4).combine_gradients(rows.clone())
        torch.testing.assert_close(ours, len(rows) * theirs(rows), rtol=1e-3, atol=1e-3)
