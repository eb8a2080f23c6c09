"""Gate: an update whose numbers are not finite moves nothing, whether that is known before the optimizer's step or behind it."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from regkit import hookimpl
from regkit.hooks import catalog
from regkit.hooks.adamw import AdamW
from regkit.testing import tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.gate import Gate
from regkit.training.loop import Trainer
from regkit.training.update import Update
from tests.helpers import slow_but
from tests.training.test_loop import Bad


def run(what: str, plugins: Mapping[str, object], more: object = None) -> tuple[Trainer, Bad]:
    bad = Bad([0, 3, 4], what)
    tasks = unscored(tiny_tasks()[:2])
    trainer = tiny_trainer({"bad": bad, **plugins}, tasks=tasks, steps=6, observers=[more] if more else [])
    trainer.train()
    return trainer, bad


def numbers(trainer: Trainer) -> dict[str, Tensor]:
    """Weights, and what the optimizer keeps of each."""
    assert trainer.state.optimizer is not None
    found = dict(trainer.model.state_dict())
    for number, values in trainer.state.optimizer.state_dict()["state"].items():
        found |= {f"{number}.{name}": value for name, value in values.items()}
    return found


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a CPU decide as a GPU does."""
    monkeypatch.setattr(Gate, "late", property(lambda gate: not gate.early))


@pytest.mark.parametrize("what", slow_but(["loss", "gradient"], ["gradient"]))
def test_a_late_answer_leaves_every_number_as_an_early_one(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    early, told = run(what, {"ema": catalog.make("ema", {})})
    monkeypatch.setattr(Gate, "late", True)
    late, told_late = run(what, {"ema": catalog.make("ema", {})})
    assert told.told == told_late.told
    assert told.told == ["skipped 0", "after 1", "after 2", "skipped 3", "skipped 4", "after 5"]
    one, other = numbers(early), numbers(late)
    assert one.keys() == other.keys(), "an update that was skipped has begun no moments"
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    averages = [trainer.state.plugins["ema"].average.state_dict() for trainer in (early, late)]
    assert all(torch.equal(value, averages[1][name]) for name, value in averages[0].items())


@pytest.mark.usefixtures("late")
def test_a_late_answer_leaves_an_optimizer_without_moments_that_had_none() -> None:
    trainer = tiny_trainer({"bad": Bad([0], "gradient")}, tasks=unscored(tiny_tasks()[:1]), steps=1)
    trainer.train()
    assert trainer.state.position.skipped == 1
    assert trainer.state.optimizer is not None
    assert not trainer.state.optimizer.state


@pytest.mark.usefixtures("late")
def test_a_plugin_that_is_told_of_the_clipped_gradient_is_told_of_finite_ones_alone() -> None:
    class Clipped:
        def __init__(self) -> None:
            self.norms: list[Tensor] = []

        @hookimpl
        def clipped(self, norm: Tensor) -> None:
            self.norms.append(norm)

    clipped = Clipped()
    run("gradient", {}, clipped)
    assert len(clipped.norms) == 3
    assert all(norm.isfinite() for norm in clipped.norms)


class Counting(torch.optim.AdamW):
    """An optimizer of a user's own."""


@pytest.mark.parametrize(
    ("make", "early", "late"),
    [
        (lambda weights: AdamW(weights, fused=True), False, True),  # the run's own
        (lambda weights: torch.optim.AdamW(weights, fused=True), False, True),
        (lambda weights: torch.optim.AdamW(weights, fused=True), True, False),
        (lambda weights: torch.optim.AdamW(weights), False, False),
        (lambda weights: torch.optim.SGD(weights, 0.1, fused=True), False, False),
        (lambda weights: Counting(weights, fused=True), False, False),
    ],
)
def test_only_an_optimizer_that_is_known_to_listen_is_stepped_before_the_answer(
    make: Any, early: bool, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU; on a CPU there is nothing to wait for."""
    trainer = tiny_trainer({})
    update = Update(trainer.passes, make(list(trainer.model.parameters())), [])
    gate = Gate(update, torch.ones(()), early)
    assert not gate.late
    monkeypatch.setattr(Tensor, "is_cuda", True)
    assert gate.late is late


@pytest.mark.usefixtures("late")
def test_an_optimizer_is_told_of_one_update_alone() -> None:
    trainer, _ = run("loss", {})
    assert "found_inf" not in vars(trainer.state.optimizer)
