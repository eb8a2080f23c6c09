"""One cycle is torch's OneCycleLR with its rise in the warm-up, and needs one."""

from dataclasses import replace

import pytest
from regkit_plugins.one_cycle import OneCycle
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from regkit import PluginError
from regkit.testing import tiny_trainer
from regkit.training.stages import prepare
from tests.helpers import stages_of
from tests.plugins.schedules import PEAK, factors, of_torch


@pytest.mark.parametrize(("total", "warmup"), [(20, 0.3), (50, 0.25), (57, 0.3), (11, 0.5)])
@pytest.mark.parametrize(("div", "final"), [(25.0, 1e4), (10.0, 100.0)])
def test_the_rates_are_those_of_torch(total: int, warmup: float, div: float, final: float) -> None:
    def make(optimizer: Optimizer) -> LRScheduler:
        return OneCycleLR(
            optimizer,
            PEAK,
            total,
            pct_start=warmup,
            div_factor=div,
            final_div_factor=final,
            cycle_momentum=False,
        )

    found = factors(OneCycle(start=1 / div, end=1 / div / final), total, warmup)
    assert found == pytest.approx(of_torch(make, total), abs=1e-9)


@pytest.mark.parametrize("warmup", [0.01, 0.13, 0.5, 0.99])
@pytest.mark.parametrize("total", [1, 2, 7, 64])
def test_the_rate_is_above_0_and_at_most_the_peak(total: int, warmup: float) -> None:
    assert all(0 < factor <= 1 for factor in factors(OneCycle(), total, warmup))


def test_a_stage_without_a_warm_up_is_refused() -> None:
    trainer = tiny_trainer({"one_cycle": OneCycle()})
    ((stage, tasks),) = stages_of(trainer)
    with pytest.raises(PluginError, match=r"stage 'finetune' has none: --warmup 0.3\.$"):
        prepare(trainer.hook, trainer.model, replace(stage, warmup=0.0), tasks)
