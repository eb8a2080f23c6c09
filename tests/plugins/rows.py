"""What tests of gradient surgery share: gradients of some tasks, and slow versions of each method."""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regkit.tasks.task import Task
from regkit.testing import tiny_tasks
from regkit.testing.tiny import unscored

PATIENT = settings(deadline=None, max_examples=30)
Orders = Sequence[Sequence[int]]


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


def dual(rows: Tensor, mixtures: Tensor, c: float) -> Tensor:
    """Compute what CAGrad minimizes for each mixture: no direction in the ball serves all tasks better."""
    mean, mixed = rows.mean(0), mixtures @ rows
    return mixed @ mean + c * mean.norm() * mixed.norm(dim=1)


def three() -> list[Task]:
    return unscored(tiny_tasks()[:3])
