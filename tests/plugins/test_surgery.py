"""PCGrad, GradVac, CAGrad and TorchJD against slow versions that work on the rows themselves, and on a real tiny model."""

import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from regkit_plugins.cagrad import CAGrad, shares
from regkit_plugins.gradnorm import GradNorm
from regkit_plugins.gradvac import GradVac
from regkit_plugins.l2sp import L2SP
from regkit_plugins.pcgrad import PCGrad, surgery
from regkit_plugins.rrobin import RoundRobin
from regkit_plugins.smart import Smart
from regkit_plugins.torchjd import TorchJD
from torch import Tensor

from regkit import PluginError, hookimpl
from regkit.data.order import Feed
from regkit.tasks.task import Stage, Task
from regkit.testing import Snapshot, measured, resume_is_exact, same_weights, tiny_tasks, tiny_trainer
from regkit.training.effects import summary
from regkit.training.loop import Trainer
from regkit.training.stages import make_optimizer, prepare
from tests.helpers import Both, compute, stages_of

aggregation = pytest.importorskip("torchjd.aggregation")

WHOLE, CUT = 10_000, 15  # tokens in a micro-batch
PATIENT = settings(deadline=None, max_examples=30)

Orders = Sequence[Sequence[int]]
Combined = list[Tensor]  # every answer that some order of the tasks gives


def plain(rows: Tensor) -> Tensor:
    return rows


def with_zero(rows: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(rows[:1]), rows[1:]])


def with_equal(rows: Tensor) -> Tensor:
    return torch.cat([rows[1:2], rows[1:]])


def with_opposite(rows: Tensor) -> Tensor:
    return torch.cat([-rows[1:2], rows[1:]])


def with_large(rows: Tensor) -> Tensor:
    return torch.cat([1e5 * rows[:1], rows[1:]])


def with_small(rows: Tensor) -> Tensor:
    return torch.cat([1e-5 * rows[:1], rows[1:]])


def all_zero(rows: Tensor) -> Tensor:
    return torch.zeros_like(rows)


EDGES = {
    each.__name__: each for each in (plain, with_zero, with_equal, with_opposite, with_large, with_small, all_zero)
}


def matrix(seed: int, count: int, edge: str = "plain", width: int = 7) -> Tensor:
    """Gradients of some tasks in float64, many of which conflict."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return EDGES[edge](rows * torch.rand(count, 1, generator=generator, dtype=torch.float64).add(0.3))


def orders_of(seed: int, count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(count, generator=generator).tolist() for _ in range(count)]


def every_order(count: int) -> Iterator[Orders]:
    """All ways in which each of the tasks may meet the others."""
    yield from product(*(permutations([j for j in range(count) if j != i]) for i in range(count)))


MATRICES = given(seed=st.integers(0, 10**6), count=st.integers(2, 5), edge=st.sampled_from(list(EDGES)))


def pcgrad_by_rows(rows: Tensor, orders: Orders) -> Tensor:
    """Algorithm 1 of Yu et al., on vectors."""
    turned = []
    for i, order in enumerate(orders):
        mine = rows[i].clone()
        for j in order:
            if j != i and float(torch.dot(mine, rows[j])) < 0:
                mine = mine - torch.dot(mine, rows[j]) / rows[j].norm() ** 2 * rows[j]
        turned.append(mine)
    return torch.stack(turned).sum(0)


def gradvac_by_rows(rows: Tensor, orders: Orders, aims: dict[tuple[int, int], float], beta: float) -> Tensor:
    """Algorithm 1 of Wang et al., on vectors, which are turned by an angle; moves the aims."""
    turned = []
    for i, order in enumerate(orders):
        mine = rows[i].clone()
        for j in order:
            if j == i or not mine.norm() or not rows[j].norm():
                continue
            cosine = float(torch.dot(mine, rows[j]) / (mine.norm() * rows[j].norm()))
            aim = aims.get((i, j), 0.0)
            if cosine < aim:  # along the other until the angle is the one aimed at
                there = rows[j] / rows[j].norm()
                across = mine - torch.dot(mine, there) * there
                mine = across + across.norm() / math.tan(math.acos(aim)) * there
            aims[i, j] = aim + beta * (cosine - aim)
        turned.append(mine)
    return torch.stack(turned).sum(0)


def named(count: int) -> list[Task]:
    return [SimpleNamespace(name=f"t{number}") for number in range(count)]  # type: ignore[misc]


def is_one_of(found: Tensor, answers: Sequence[Tensor], rtol: float = 1e-9) -> bool:
    scale = max(float(each.norm()) for each in answers)
    return any(float((found - each).norm()) <= rtol * scale for each in answers)


# PCGrad


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


@pytest.mark.parametrize("plugin", [PCGrad, GradVac])
def test_each_task_meets_the_others_in_every_order_equally_often(
    plugin: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Orders] = []
    if plugin is PCGrad:
        monkeypatch.setattr(
            "regkit_plugins.pcgrad.surgery", lambda products, orders: seen.append(orders) or products[0]
        )
    else:
        monkeypatch.setattr(
            GradVac, "vaccine", lambda self, products, orders, names: seen.append(orders) or products[0]
        )
    torch.manual_seed(0)
    for _ in range(600):
        arguments = {"tasks": named(3)} if plugin is GradVac else {}
        plugin().combine_gradients(gradients=torch.zeros(3, 2), **arguments)
    orders = Counter(
        tuple(tuple(j for j in order if j != i) for i, order in enumerate(each)) for each in seen
    )  # each draws its own
    assert set(orders) == set(every_order(3))
    assert min(orders.values()) > 600 / 8 * 0.6


def test_a_gradient_too_small_to_be_squared_poisons_nothing() -> None:
    """In float32 the square of 1e-24 is 0, its product with another gradient is not."""
    rows = torch.tensor([[1.0, 0.0], [-1e-24, 0.0]])
    for plugin in (PCGrad(), CAGrad()):
        assert torch.isfinite(plugin.combine_gradients(gradients=rows.clone())).all(), plugin
    assert torch.isfinite(GradVac().combine_gradients(named(2), rows.clone())).all()


# GradVac


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


# CAGrad


def worst_inner_product(rows: Tensor, direction: Tensor) -> float:
    return float((rows @ direction).min())


def dual(rows: Tensor, mixtures: Tensor, c: float) -> Tensor:
    """What CAGrad's program minimizes, of each mixture: no direction in the ball serves all tasks better than this."""
    mean, mixed = rows.mean(0), mixtures @ rows
    return mixed @ mean + c * mean.norm() * mixed.norm(dim=1)


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
    try:
        theirs = aggregation.CAGrad(c=0.4, norm_eps=0.0)
    except ImportError:
        pytest.skip("cvxpy is not installed")
    for seed in range(10):
        rows = matrix(seed, 2 + seed % 4)
        ours = CAGrad(c=0.4).combine_gradients(rows.clone())
        torch.testing.assert_close(ours, len(rows) * theirs(rows), rtol=1e-3, atol=1e-3)


# TorchJD


@pytest.mark.parametrize("name", ["UPGrad", "MGDA", "PCGrad", "Mean", "Sum", "Random"])
def test_torchjd_gives_what_the_aggregator_gives(name: str) -> None:
    rows = matrix(5, 3)
    torch.manual_seed(7)
    ours = TorchJD(name).combine_gradients(rows.clone())
    torch.manual_seed(7)
    torch.testing.assert_close(ours, getattr(aggregation, name)()(rows), rtol=0, atol=0)


def test_torchjd_asks_for_upgrad_by_default() -> None:
    assert type(TorchJD().combine) is aggregation.UPGrad


def test_an_aggregator_that_does_not_exist_is_refused_with_the_choices() -> None:
    with pytest.raises(PluginError, match=r"^'torchjd' has no aggregator 'UPGrat'\. .*Available: .*UPGrad\b"):
        TorchJD("UPGrat")


def test_an_aggregator_that_needs_arguments_is_refused_with_what_it_says() -> None:
    with pytest.raises(PluginError, match=r"^'torchjd' cannot make FairGrad: .*alpha.*\.$"):
        TorchJD("FairGrad")


@pytest.mark.parametrize("name", ["UPGradWeighting", "Aggregator", "Weighting", "WeightedAggregator", "__name__"])
def test_what_is_not_an_aggregator_of_its_own_is_refused(name: str) -> None:
    """A weighting takes inner products, and fails late or gives shares instead of a gradient."""
    with pytest.raises(PluginError):
        TorchJD(name)


def test_only_aggregators_are_offered() -> None:
    with pytest.raises(PluginError) as caught:
        TorchJD("nothing")
    assert "Weighting" not in str(caught.value)


# On a model


@dataclass
class Spy:
    """Keeps the rows and the answer of every update; goes around whoever decides."""

    rows: list[Tensor] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)
    answers: list[Tensor] = field(default_factory=list)

    @hookimpl(wrapper=True)
    def combine_gradients(self, tasks: Sequence[Task], gradients: Tensor) -> Tensor:
        self.rows.append(gradients.clone())
        self.names.append([task.name for task in tasks])
        answer = yield
        self.answers.append(answer.clone())
        return answer


def pcgrad_answers(rows: Tensor) -> Combined:
    return [pcgrad_by_rows(rows, orders) for orders in every_order(len(rows))]


def gradvac_answers(rows: Tensor) -> Combined:
    return [gradvac_by_rows(rows, orders, {}, 0.01) for orders in every_order(len(rows))]


def cagrad_answers(rows: Tensor) -> Combined:
    """Of many mixtures the best one's direction; coarse, see the tests on matrices."""
    drawn = torch.from_numpy(np.random.default_rng(0).dirichlet([0.6] * len(rows), 6000))
    mean = rows.mean(0)
    mixtures = torch.cat([drawn, torch.eye(len(rows)).double()])
    best = mixtures[int(dual(rows, mixtures, 0.4).argmin())] @ rows
    return [len(rows) * (mean + 0.4 * mean.norm() * best / best.norm())]


def upgrad_answers(rows: Tensor) -> Combined:
    return [aggregation.UPGrad()(rows)]


SURGEONS = {
    "pcgrad": (PCGrad, pcgrad_answers, 1e-9),
    "gradvac": (GradVac, gradvac_answers, 1e-9),
    "cagrad": (CAGrad, cagrad_answers, 0.02),
    "torchjd": (TorchJD, upgrad_answers, 1e-9),
}
OTHERS = {
    "alone": dict,
    "smart and l2sp": lambda: {"smart": Smart(weight=2.0), "l2sp": L2SP(weight=0.02)},
}


def three() -> list[Task]:
    return tiny_tasks()[:3]


def prepared(plugins: Mapping[str, Any], dropout: float) -> Trainer:
    """A trainer in float64 whose first update is to begin, at weights that a run has moved."""
    trainer = tiny_trainer({"both": Both(), **plugins}, tasks=three(), dropout=dropout)
    trainer.model.double().train()
    ((stage, tasks),) = stages_of(trainer)
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, tasks)
        trainer.state.optimizer = make_optimizer(trainer.hook, trainer.model, stage)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return trainer


def gradients(trainer: Trainer, tasks: Sequence[Task], budget: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient of the shared parameters as one vector, and those of the heads by name."""
    chosen = [(task, Feed(task, 0, "finetune").micro_batches(0, budget)) for task in tasks]
    with trainer.streams.at("finetune", 0):
        compute(trainer, trainer.state.optimizer, chosen)
    shared = [
        torch.zeros_like(each).flatten() if each.grad is None else each.grad.flatten()
        for each in trainer.model.encoder.parameters()
    ]
    heads = {name: each.grad.clone() for name, each in trainer.model.heads.named_parameters() if each.grad is not None}
    return torch.cat(shared), heads


@pytest.mark.parametrize("budget", [WHOLE, CUT])
@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("surgeon", SURGEONS)
def test_an_update_has_what_the_algorithm_makes_of_each_tasks_own_gradient(
    surgeon: str, others: str, budget: int
) -> None:
    """Terms of regularizers are in their task's row, heads keep their own task's gradient, and dropout is on."""
    kind, answers, rtol = SURGEONS[surgeon]
    combined, heads = gradients(prepared({**OTHERS[others](), surgeon: kind()}, 0.3), three(), budget)
    rows, alone = [], {}
    for task in three():
        row, head = gradients(prepared(OTHERS[others](), 0.3), [task], budget)
        rows.append(row)
        alone |= head
    expected = answers(torch.stack(rows))
    assert is_one_of(combined, expected, rtol)
    assert not is_one_of(torch.stack(rows).sum(0), expected, 1e-3)  # there is something to operate on
    assert not is_one_of(torch.stack(rows).mean(0), expected, 1e-3)
    assert heads.keys() == alone.keys()
    assert {name.split(".")[0] for name in heads} == {task.name for task in three()}
    for name, gradient in alone.items():
        torch.testing.assert_close(heads[name], gradient, rtol=0, atol=0, msg=(name + ": {}").format)


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("surgeon", SURGEONS)
def test_micro_batches_do_not_show_in_a_combined_gradient(surgeon: str, others: str) -> None:
    found = []
    for budget in (WHOLE, CUT):
        trainer = prepared({**OTHERS[others](), surgeon: SURGEONS[surgeon][0]()}, 0.0)
        assert (len(Feed(three()[0], 0, "finetune").micro_batches(0, budget)) > 1) == (budget == CUT)
        combined, heads = gradients(trainer, three(), budget)
        found.append({"shared": combined, **heads})
    for name, gradient in found[0].items():
        tolerance = 1e-3 if surgeon == "cagrad" else 1e-7
        torch.testing.assert_close(
            found[1][name],
            gradient,
            rtol=tolerance,
            atol=tolerance * float(gradient.abs().max()),
            msg=f"{name} differs",
        )


@pytest.mark.parametrize("surgeon", SURGEONS)
def test_a_step_of_one_task_is_left_alone(surgeon: str) -> None:
    operated = tiny_trainer({surgeon: SURGEONS[surgeon][0]()}, steps=4)
    untouched = tiny_trainer({}, steps=4)
    operated.train()
    untouched.train()
    same_weights(operated, untouched)


@pytest.mark.parametrize("surgeon", SURGEONS)
def test_with_a_frozen_encoder_there_is_nothing_to_operate_on(surgeon: str) -> None:
    def frozen(plugins: Mapping[str, Any]) -> Trainer:
        trainer = tiny_trainer({"both": Both(), "frozen": Frozen(), **plugins}, tasks=three(), steps=3)
        trainer.train()
        return trainer

    same_weights(frozen({surgeon: SURGEONS[surgeon][0]()}), frozen({}))


class Frozen:
    @hookimpl(wrapper=True)
    def stages(self) -> list[list[Stage]]:
        answers = yield
        return [
            [Stage(each.name, each.tasks, steps=each.steps, trainable="heads") for each in answer] for answer in answers
        ]


@pytest.mark.parametrize("surgeon", SURGEONS)
def test_global_random_numbers_are_neither_used_nor_drawn(surgeon: str) -> None:
    """A seed of Python's or NumPy's own would be lost on resuming."""
    trainers = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        trainer = tiny_trainer({"both": Both(), surgeon: SURGEONS[surgeon][0]()}, tasks=three(), steps=3)
        states = random.getstate(), torch.get_rng_state()
        trainer.train()
        assert random.getstate() == states[0]
        assert torch.equal(torch.get_rng_state(), states[1])
        trainers.append(trainer)
    same_weights(*trainers)


@pytest.mark.parametrize("surgeon", SURGEONS)
def test_a_resumed_run_is_the_one_that_never_stopped(surgeon: str) -> None:
    resume_is_exact(lambda: {"rrobin": RoundRobin(per_step=3), surgeon: SURGEONS[surgeon][0]()}, three)


@pytest.mark.parametrize("name", ["GradVac", "PCD"])
def test_an_aggregator_that_remembers_is_resumed_exactly_or_refused(name: str) -> None:
    try:
        TorchJD(name)
    except PluginError as error:
        assert name in str(error)  # noqa: PT017
        return
    resume_is_exact(lambda: {"rrobin": RoundRobin(per_step=3), "torchjd": TorchJD(name)}, three)


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


# The effect meter


def test_the_meter_records_the_cosine_of_every_pair_and_how_often_it_conflicts() -> None:
    spy = Spy()
    _, _, records = measured({"both": Both(), "spy": spy, "pcgrad": PCGrad()}, tasks=three())
    assert len(records) == len(spy.rows)
    expected: dict[str, list[float]] = {}
    for rows, names, record in zip(spy.rows, spy.names, records, strict=True):
        cosines = {}
        for i, j in ((0, 1), (0, 2), (1, 2)):
            cosine = float(torch.dot(rows[i], rows[j]) / (rows[i].norm() * rows[j].norm()))
            cosines[f"{names[i]} and {names[j]}"] = cosine
            expected.setdefault(f"{names[i]} and {names[j]}", []).append(cosine)
        assert record["cosines"] == pytest.approx(cosines, abs=1e-5)
    found = summary(records)["cosines"]
    assert found.keys() == expected.keys()
    for pair, values in expected.items():
        assert found[pair]["cosine of the gradients"] == pytest.approx(sum(values) / len(values), abs=1e-5)
        assert found[pair]["share of conflicts"] == sum(value < 0 for value in values) / len(values)
    assert any(values["share of conflicts"] > 0 for values in found.values())


@pytest.mark.parametrize("plugin", [None, L2SP, GradNorm, *(kind for kind, _, _ in SURGEONS.values())])
def test_cosines_are_recorded_only_where_somebody_keeps_the_gradients_apart(plugin: Callable[[], Any] | None) -> None:
    plugins = {"both": Both()} if plugin is None else {"both": Both(), "it": plugin()}
    _, _, records = measured(plugins, tasks=three())
    kept = plugin not in (None, L2SP)
    assert records
    assert all(bool(record["cosines"]) == kept for record in records)
    assert bool(summary(records)["cosines"]) == kept


def test_no_cosine_is_recorded_where_every_step_has_one_task() -> None:
    _, _, records = measured({"pcgrad": PCGrad()}, tasks=three())
    assert not any(record["cosines"] for record in records)


@pytest.mark.parametrize("surgeon", SURGEONS)
def test_measuring_changes_no_weight_with_surgery_on(surgeon: str) -> None:
    def plugins() -> dict[str, Any]:
        return {"both": Both(), "l2sp": L2SP(), surgeon: SURGEONS[surgeon][0]()}

    watched, _, records = measured(plugins(), tasks=three(), micro_batch_tokens=60)
    unwatched = tiny_trainer(plugins(), tasks=three(), micro_batch_tokens=60)
    unwatched.train()
    assert records
    same_weights(watched, unwatched)
