"""The cosine schedule is torch's, behind a warm-up."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from regkit_plugins.cosine import Cosine
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from regkit import hookimpl
from regkit.testing import tiny_trainer
from tests.plugins.schedules import PEAK, factors, of_torch


@pytest.mark.parametrize(("total", "rise"), [(20, 5), (50, 2), (7, 3)])
@pytest.mark.parametrize("end", [0.0, 0.1])
def test_the_rates_are_those_of_torch(total: int, rise: int, end: float) -> None:
    def make(optimizer: Optimizer) -> LRScheduler:
        up = LinearLR(optimizer, 1 / rise, 1.0, total_iters=rise - 1)
        return SequentialLR(optimizer, [up, CosineAnnealingLR(optimizer, total - rise, end * PEAK)], [rise])

    assert factors(Cosine(end), total, rise / total) == pytest.approx(of_torch(make, total), abs=1e-9)


def test_without_a_warm_up_it_begins_at_the_peak_and_falls_all_the_time() -> None:
    found = factors(Cosine(0.2), 30, 0.0)
    assert found[0] == 1
    assert all(one > other > 0.2 for one, other in pairwise(found))


@pytest.mark.parametrize("warmup", [0.0, 0.13, 0.5, 0.99])
@pytest.mark.parametrize("total", [1, 2, 7, 64])
def test_the_rate_is_above_0_and_never_above_the_peak(total: int, warmup: float) -> None:
    assert all(0 < factor <= 1 for factor in factors(Cosine(), total, warmup))


@dataclass
class Rates:
    """Keeps the learning rate of each step."""

    found: list[float] = field(default_factory=list)

    @hookimpl
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.found.append(optimizer.param_groups[0]["lr"])


def test_a_run_trains_at_these_rates() -> None:
    rates = Rates()
    tiny_trainer({"cosine": Cosine(), "rates": rates}, steps=6).train()
    assert rates.found == pytest.approx([1e-2 * factor for factor in factors(Cosine(), 6, 0.1)])
