"""Arithmetic: which number format a pass with a perturbation has, and that TF32 stays within its products."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from regkit import Batch, Predict, Task, hookimpl
from regkit.model.tf32 import MATMUL, ON, SWITCH
from regkit.testing import tiny_tasks, tiny_trainer
from regkit.training import arithmetic as ladders
from regkit.training import passes
from regkit.training.arithmetic import Multiplier, arithmetic_of
from regkit.training.loop import Trainer

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
HALF, SINGLE = torch.bfloat16, torch.float32


@pytest.fixture(autouse=True)
def usual() -> Iterator[object]:
    """Where the switch was; it is there again after each test."""
    before = getattr(MATMUL, SWITCH)
    yield before
    assert getattr(MATMUL, SWITCH) == before
    setattr(MATMUL, SWITCH, before)


class RecordsMm(torch.autograd.Function):
    """A product that notes where the switch is, forward and backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, seen: list[object]) -> Tensor:
        ctx.seen = seen
        seen.append(getattr(MATMUL, SWITCH))
        return values * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.seen.append(getattr(MATMUL, SWITCH))
        return gradient * 2, None


class Records(RecordsMm):
    """The same, of what is no product."""


@pytest.mark.parametrize(
    ("radius", "precision", "device", "found"),
    [
        (None, HALF, CUDA, "bf16"),
        (None, SINGLE, CUDA, "fp32"),
        (0.3, SINGLE, CUDA, "fp32"),
        (0.3, HALF, CUDA, "bf16"),
        (0.1, HALF, CUDA, "bf16"),
        (0.099, HALF, CUDA, "TF32"),
        (0.03, HALF, CPU, "bf16"),
        (0.029, HALF, CPU, "fp32"),
        (0.003, HALF, CUDA, "TF32"),
        (0.0029, HALF, CUDA, "fp32"),
        (0.0, HALF, CUDA, "fp32"),
        (float("nan"), HALF, CUDA, "fp32"),
    ],
)
def test_the_smaller_a_perturbation_the_finer_its_arithmetic(
    radius: float | None, precision: torch.dtype, device: torch.device, found: str
) -> None:
    assert arithmetic_of(radius, precision, device) == found


@pytest.mark.parametrize("ladder", [ladders.CUDA, ladders.ELSEWHERE])
def test_the_rungs_go_down(ladder: Sequence[ladders.Rung]) -> None:
    radii = [rung.radius for rung in ladder]
    assert radii == sorted(set(radii), reverse=True)


@pytest.mark.parametrize("arithmetic", ["bf16", "TF32", "fp32"])
def test_the_switch_is_on_in_tf32_alone_and_goes_back_also_after_an_error(arithmetic: Any, usual: object) -> None:
    def fail() -> None:
        with Multiplier().computing(arithmetic, CPU):
            assert getattr(MATMUL, SWITCH) == (ON if arithmetic == "TF32" else usual)
            assert torch.is_autocast_enabled("cpu") == (arithmetic == "bf16")
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert getattr(MATMUL, SWITCH) == usual


@pytest.mark.parametrize("arithmetic", ["TF32", "fp32"])
def test_the_products_of_the_backward_pass_are_in_tf32_and_nothing_else_is(arithmetic: Any, usual: object) -> None:
    before, inside, other, after = [list[object]() for _ in range(4)]
    multiplier = Multiplier()
    given = RecordsMm.apply(torch.ones(2, requires_grad=True), before)
    with multiplier.computing(arithmetic, CPU):
        output = Records.apply(RecordsMm.apply(given + 1, inside), other)
    multiplier.backward_too(arithmetic, output, given)
    RecordsMm.apply(output, after).sum().backward()
    on = ON if arithmetic == "TF32" else usual
    assert (before, inside, other, after) == ([usual] * 2, [on] * 2, [on, usual], [usual] * 2)


def test_a_product_that_fails_leaves_the_switch_on_no_longer_than_to_the_next_pass(usual: object) -> None:
    multiplier = Multiplier()
    multiplier._on()
    with multiplier.computing("fp32", CPU):
        pass
    assert getattr(MATMUL, SWITCH) == usual


def test_in_tf32_a_pass_and_its_gradient_are_those_of_float32_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its switch has no effect there: what is left is that nothing else is done to the pass."""
    task = tiny_tasks()[0]
    batch = task.splits["train"].batch([0, 1, 2, 3], [7, 8, 9, 10])

    def found(arithmetic: str) -> list[Tensor]:
        monkeypatch.setattr(passes, "arithmetic_of", lambda *_: arithmetic)
        trainer = tiny_trainer({}, dropout=0.1)
        embeddings = trainer.model.embed(batch)
        output = trainer.passes.predict_again(task, batch, embeddings, embeddings)(embeddings + 0.01, radius=0.01)
        output.square().sum().backward()
        return [output, *(each.grad for each in trainer.model.parameters() if each.grad is not None)]

    for one, other in zip(found("TF32"), found("fp32"), strict=True):
        assert torch.equal(one, other)


class Compares:
    """A plugin whose passes are compared with the clean one, at a radius."""

    def __init__(self, radius: float) -> None:
        self.radius = radius

    @hookimpl
    def extra_losses(self, embeddings: Tensor, predict: Predict) -> dict[str, Tensor]:
        near, clean = (predict(each, radius=self.radius) for each in (embeddings + 1e-3, embeddings))
        return {f"of {self.radius}": (near - clean).square().mean()}


def made(
    precision: torch.dtype, *radii: float, stages: Mapping[str, Sequence[str]] | None = None
) -> tuple[dict[str, Tensor], int]:
    """Compute the terms of a loss with such plugins, and count the passes."""
    trainer = tiny_trainer({f"of {radius}": Compares(radius) for radius in radii}, dropout=0.1, stages=stages)
    trainer.passes.precision = precision
    model, count = trainer.model, 0

    def counted(*given: Any, **more: Any) -> Tensor:
        nonlocal count
        count += 1
        return encode(*given, **more)

    encode, model.encoder.encode = model.encoder.encode, counted
    with trainer.streams.at("finetune", 0):
        found = trainer.passes.losses(*one_batch(trainer))
    return found, count


def one_batch(trainer: Trainer) -> tuple[Task, Batch]:
    task = trainer.tasks[0]
    return task, task.splits["train"].batch([0, 1, 2, 3], [7, 8, 9, 10])


def test_a_clean_pass_is_as_fine_as_those_that_are_compared_with_it_and_made_once() -> None:
    """So are those of a coarser plugin beside a finer one: all of a step is what it is in float32."""
    (fine, passes), (single, same) = made(HALF, 0.01, 0.3), made(SINGLE, 0.01, 0.3)
    assert (passes, same) == (3, 3)
    for name, term in single.items():
        assert torch.equal(fine[name], term)
    coarse, passes = made(HALF, 0.3)
    assert passes == 2
    assert not torch.equal(coarse["of 0.3"], single["of 0.3"])
    assert not torch.equal(coarse["task"], single["task"])


def test_a_plugin_that_acts_in_another_stage_leaves_the_clean_pass_in_bf16() -> None:
    elsewhere, passes = made(HALF, 0.01, stages={"of 0.01": ["pretrain"]})
    assert (list(elsewhere), passes) == (["task"], 1)
    assert torch.equal(elsewhere["task"], made(HALF)[0]["task"])
    assert not torch.equal(elsewhere["task"], made(SINGLE)[0]["task"])
