"""GradVac against the algorithm on the rows themselves, and against torchjd."""

import copy
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from regkit_plugins.gradvac import GradVac
from regkit_plugins.pcgrad import surgery

from regkit.testing import Snapshot, tiny_trainer
from tests.helpers import Both
from tests.plugins.rows import (
    EDGES,
    MATRICES,
    PATIENT,
    gradvac_by_rows,
    matrix,
    named,
    orders_of,
    three,
    with_equal,
    with_zero,
)


@PATIENT
@given(seed=st.integers(0, 10**6), count=st.integers(2, 5), beta=st.sampled_from([0.01, 0.3, 0.9]))
def test_gradvac_is_the_algorithm_on_the_rows_themselves(seed: int, count: int, beta: float) -> None:
    """Over several updates, so that the aims are no longer 0."""
    plugin, aims = GradVac(beta=beta), {}
    for step in range(4):
        rows, orders = matrix(seed + step, count), orders_of(seed + step, count)
        ours = plugin.vaccine(rows @ rows.T, orders, [task.name for task in named(count)]) @ rows
        expected = gradvac_by_rows(rows, orders, aims, beta)
        torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-8 * float(expected.norm()))
        assert plugin.aims == pytest.approx({f"t{i} t{j}": aim for (i, j), aim in aims.items()}, abs=1e-9)


@PATIENT
@given(seed=st.integers(0, 10**6), count=st.integers(2, 5))
def test_gradvac_is_that_of_torchjd(seed: int, count: int) -> None:
    """Told the orders that torchjd draws: permutations of the other tasks alone."""
    aggregation = pytest.importorskip("torchjd.aggregation")
    ours, theirs = GradVac(beta=0.4), aggregation.GradVac(beta=0.4, eps=0.0)
    torch.manual_seed(seed)
    for step in range(3):
        rows = matrix(seed + step, count)
        state = torch.get_rng_state()
        expected = theirs(rows)
        torch.set_rng_state(state)
        others = [[j for j in range(count) if j != i] for i in range(count)]
        orders = [[other[k] for k in torch.randperm(count - 1).tolist()] for other in others]
        found = ours.vaccine(rows @ rows.T, orders, [task.name for task in named(count)]) @ rows
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8 * float(rows.norm()))


@PATIENT
@MATRICES
def test_the_first_gradvac_of_two_tasks_is_their_pcgrad(seed: int, count: int, edge: str) -> None:
    """The aims are 0 at first: a right angle."""
    rows, orders = matrix(seed, 2, edge), [[1], [0]]
    ours = GradVac().vaccine(rows @ rows.T, orders, ["one", "other"])
    torch.testing.assert_close(ours, surgery(rows @ rows.T, orders), rtol=1e-7, atol=1e-9)


def test_gradvac_turns_a_gradient_until_it_has_the_cosine_aimed_at() -> None:
    rows = torch.tensor([[1.0, 0.5, 0.0], [-0.2, 1.0, 0.3]], dtype=torch.float64)
    plugin = GradVac(beta=0.1)
    plugin.aims = {"one other": 0.8, "other one": -1.0 + 1e-9}  # the second never turns
    turned = plugin.vaccine(rows @ rows.T, [[1], [0]], ["one", "other"]) @ rows - rows[1]
    assert float(torch.cosine_similarity(turned, rows[1], dim=0)) == pytest.approx(0.8)
    across = rows[0] - turned
    assert abs(float(torch.cosine_similarity(across, rows[1], dim=0))) == pytest.approx(1.0)  # only along the other


def test_aims_are_moving_averages_of_ordered_pairs() -> None:
    """The second of three meets a gradient that the first has not turned: each pair has two aims."""
    plugin, beta = GradVac(beta=0.25), 0.25
    rows = matrix(1, 3)
    rows[1] -= 2 * rows[0]
    names, orders = ["a", "b", "c"], [[1, 2], [2, 0], [0, 1]]
    plugin.vaccine(rows @ rows.T, orders, names)
    assert plugin.aims.keys() == {f"{one} {other}" for one, other in permutations(names, 2)}
    assert plugin.aims["a b"] == pytest.approx(beta * float(torch.cosine_similarity(rows[0], rows[1], dim=0)))
    assert plugin.aims["a c"] != pytest.approx(plugin.aims["c a"])
    before = dict(plugin.aims)
    alike = torch.ones(3, 4, dtype=torch.float64)
    plugin.vaccine(alike @ alike.T, orders, names)
    assert plugin.aims == pytest.approx({pair: (1 - beta) * aim + beta for pair, aim in before.items()})


def test_a_task_without_a_gradient_moves_no_aim() -> None:
    plugin = GradVac()
    plugin.aims = {"t0 t1": 0.5, "t1 t0": 0.5}
    rows = with_zero(matrix(1, 2))
    torch.testing.assert_close(plugin.combine_gradients(named(2), rows.clone()), rows.sum(0))
    assert plugin.aims == {"t0 t1": 0.5, "t1 t0": 0.5}


@pytest.mark.parametrize("edge", EDGES)
def test_gradvac_in_float32_stays_finite_whatever_the_rows(edge: str) -> None:
    """Opposite rows leave nothing but rounding of each other."""
    torch.manual_seed(0)
    plugin = GradVac()
    for seed in range(60):
        rows = matrix(seed, 2 + seed % 4, edge, width=50).float()
        combined = plugin.combine_gradients(named(len(rows)), rows.clone())
        assert torch.isfinite(combined).all()
        assert float(combined.norm()) <= 10 * float(rows.norm(dim=1).sum())
        plugin.after_step()
    assert all(-1 <= aim <= 1 for aim in plugin.aims.values())


def test_gradvac_survives_an_aim_of_1() -> None:
    """Two tasks whose gradients were equal, and now are not: with beta = 1 the very next update aims at 1."""
    plugin = GradVac(beta=1.0)
    for seed in range(10):
        rows = matrix(seed, 2).float()
        plugin.combine_gradients(named(2), with_equal(rows))
        plugin.after_step()
        assert torch.isfinite(plugin.combine_gradients(named(2), rows)).all()


def test_aims_move_when_the_update_is_done_and_not_for_one_that_is_skipped() -> None:
    plugin = GradVac()
    plugin.combine_gradients(named(3), matrix(0, 3))
    assert not plugin.aims
    plugin.skipped()
    plugin.after_step()
    assert not plugin.aims
    plugin.combine_gradients(named(3), matrix(0, 3))
    plugin.after_step()
    assert len(plugin.aims) == 6


def test_aims_are_in_the_state() -> None:
    plugin, other = GradVac(), GradVac()
    plugin.combine_gradients(named(3), matrix(0, 3))
    plugin.after_step()
    other.load_state_dict(copy.deepcopy(plugin.state_dict()))
    assert plugin.aims
    assert other.aims == plugin.aims
    kept = copy.deepcopy(other.aims)
    plugin.combine_gradients(named(3), matrix(1, 3))
    plugin.after_step()
    assert other.aims == kept


def test_a_resumed_gradvac_has_the_aims_it_stopped_with() -> None:
    whole, part, resumed = (GradVac(beta=0.3) for _ in range(3))
    tiny_trainer({"both": Both(), "gradvac": whole}, tasks=three()).train()
    stop = Snapshot(after=2)
    stop.trainer = tiny_trainer({"both": Both(), "gradvac": part}, tasks=three(), observers=[stop])
    stop.trainer.train()
    trainer = tiny_trainer({"both": Both(), "gradvac": resumed}, tasks=three())
    trainer.model.load_state_dict(stop.model)
    trainer.state.load(stop.training)
    assert len(stop.training["plugins"]["gradvac"]["aims"]) == 6
    trainer.train()
    assert resumed.aims == whole.aims == part.aims
