"""Benchmarks time what training does: their step is an update of the loop."""

import pytest
import torch

from regkit.testing import tiny_tasks, tiny_trainer
from tests.benchmarks.step import step_of


@pytest.mark.parametrize("plugins", [{}, {"smart": {}}])
def test_the_step_that_is_timed_updates_the_model(plugins: dict[str, object]) -> None:
    from regkit.hooks import catalog

    made = {name: catalog.make(name, options) for name, options in plugins.items()}
    trainer = tiny_trainer(made, tasks=tiny_tasks()[:1])
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    step = step_of(trainer)
    for number in (1, 2):  # at 0 the warm-up has a rate of 0
        step(number)
    assert trainer.state.position.step == 3
    moved = [name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])]
    assert len(moved) > len(before) / 2
