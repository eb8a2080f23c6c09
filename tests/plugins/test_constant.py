"""The constant schedule is torch's ConstantLR after a LinearLR."""

import pytest
from regkit_plugins.constant import Constant
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LinearLR, LRScheduler, SequentialLR

from tests.plugins.schedules import factors, of_torch


@pytest.mark.parametrize(("total", "rise"), [(20, 5), (50, 2), (7, 3)])
def test_the_rates_are_those_of_torch(total: int, rise: int) -> None:
    def make(optimizer: Optimizer) -> LRScheduler:
        up = LinearLR(optimizer, 1 / rise, 1.0, total_iters=rise - 1)
        return SequentialLR(optimizer, [up, ConstantLR(optimizer, 1.0)], [rise])

    assert factors(Constant(), total, rise / total) == pytest.approx(of_torch(make, total), abs=1e-9)


def test_without_a_warm_up_every_update_has_the_peak() -> None:
    assert factors(Constant(), 9, 0.0) == [1.0] * 9
