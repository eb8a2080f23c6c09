"""PCGrad against the algorithm on the rows themselves, and against torchjd."""

import pytest
import torch
from regkit_plugins.pcgrad import PCGrad, surgery

from tests.plugins.rows import MATRICES, PATIENT, matrix, orders_of, pcgrad_by_rows, with_opposite


@PATIENT
@MATRICES
def test_pcgrad_is_the_algorithm_on_the_rows_themselves(seed: int, count: int, edge: str) -> None:
    rows, orders = matrix(seed, count, edge), orders_of(seed, count)
    ours = surgery(rows @ rows.T, orders) @ rows
    torch.testing.assert_close(ours, pcgrad_by_rows(rows, orders), rtol=1e-9, atol=1e-9 * float(rows.norm()))


@PATIENT
@MATRICES
def test_pcgrad_is_that_of_torchjd(seed: int, count: int, edge: str) -> None:
    """Which draws no number but the orders, task by task, as ours does."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    rows = matrix(seed, count, edge)
    torch.manual_seed(seed)
    ours = PCGrad().combine_gradients(rows.clone())
    torch.manual_seed(seed)
    torch.testing.assert_close(ours, aggregation.PCGrad()(rows), rtol=1e-9, atol=1e-9 * float(rows.norm()))


def test_pcgrad_by_hand() -> None:
    """Each loses its part against the other; the results are summed, not averaged."""
    rows = torch.tensor([[2.0, 0.0], [-1.0, 1.0]])
    torch.testing.assert_close(PCGrad().combine_gradients(rows), torch.tensor([1.0, 1.0]) + torch.tensor([0.0, 1.0]))


def test_without_a_conflict_pcgrad_is_the_sum() -> None:
    for count in range(2, 6):
        rows = matrix(count, count).abs()
        torch.testing.assert_close(PCGrad().combine_gradients(rows.clone()), rows.sum(0))


def test_pcgrad_of_two_tasks_conflicts_with_neither() -> None:
    for seed in range(20):
        rows = with_opposite(matrix(seed, 2)) + 0.2 * matrix(seed + 100, 2)
        combined = PCGrad().combine_gradients(rows.clone())
        assert float((rows @ combined).min()) > -1e-12


def test_pcgrad_looks_at_the_others_as_they_were_and_not_as_they_were_turned() -> None:
    rows = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]], dtype=torch.float64)
    orders = [[1, 2], [0, 2], [0, 1]]
    # the second becomes (0, 1, 0) and then (0, .5, .5); the third meets (-1, 1, 0), and not that
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [-0.5, -0.5, 1.0]], dtype=torch.float64)
    expected[0] = torch.tensor([0.5, 0.25, 0.25])  # it then meets the third
    torch.testing.assert_close(surgery(rows @ rows.T, orders) @ rows, expected.sum(0))


def test_a_task_that_meets_itself_is_passed_over() -> None:
    """Turned away by two others, the first is over 90 degrees from where it began, and conflicts with itself."""
    angles = torch.tensor([0.0, 170.0, 200.0], dtype=torch.float64).deg2rad()
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    products, others = rows @ rows.T, [[0, 2], [0, 1]]
    turned = surgery(products, [[1, 2], *others]) @ rows
    torch.testing.assert_close(surgery(products, [[1, 2, 0], *others]) @ rows, turned)
    torch.testing.assert_close(turned, pcgrad_by_rows(rows, [[1, 2], *others]))
