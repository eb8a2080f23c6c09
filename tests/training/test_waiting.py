"""Waiting: an update never makes the CPU wait for a GPU, but for one answer that is asked for behind the optimizer's step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regkit import hookimpl
from regkit.base.late import Late
from regkit.hooks import catalog
from regkit.testing import tiny_tasks, tiny_trainer
from regkit.testing.tiny import Several
from regkit.training.fit import Fit
from regkit.training.gate import Gate
from regkit.training.loop import Trainer
from tests.benchmarks.options import Options
from tests.benchmarks.ours import enter, trainer_of, update
from tests.helpers import slow_but, write_encoder, write_tasks

aten = torch.ops.aten

# What asks a GPU for a number, or for a size that depends on numbers.
ASKS = (
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.bincount,
    aten.equal,
    aten.lift_fresh,  # a tensor of Python's numbers, which is copied to the GPU
)


class WaitsError(AssertionError):
    """The CPU would wait for a GPU here."""


class NoWaiting(TorchDispatchMode):
    """Refuses, on a CPU, what would make it wait for a GPU."""

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Sequence[Any] = (), more: Mapping[str, Any] | None = None
    ) -> Any:
        more = more or {}
        masked = function is aten.index.Tensor and any(
            each is not None and each.dtype in (torch.bool, torch.uint8) for each in given[1]
        )
        counted = function is aten.repeat_interleave.Tensor and more.get("output_size") is None
        if function.overloadpacket in ASKS or masked or counted:
            raise WaitsError(function)
        return function(*given, **more)


def refused(*given: Any, **more: Any) -> Any:
    raise WaitsError


@contextmanager
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse to wait: by torch's operations, and by the ways to numbers that are none."""
    with monkeypatch.context() as patched, NoWaiting():
        for name in ("tolist", "numpy", "cpu", "__array__"):
            patched.setattr(Tensor, name, refused)
        yield


@contextmanager
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Let the gate decide late, as on a GPU; notes when its answer was read, and whether the step was queued by then."""
    read: list[bool] = []
    queued: list[Gate] = []
    with monkeypatch.context() as patched:
        step, ask = Gate.step, Late.read

        def noted(gate: Gate) -> None:
            queued.append(gate)
            step(gate)

        def aside(late: Late) -> Any:
            read.append(any(gate.answer is late for gate in queued))
            with torch.utils._python_dispatch._disable_current_modes():
                return ask(late)

        patched.setattr(Gate, "late", property(lambda gate: not gate.early))
        patched.setattr(Gate, "step", noted)
        patched.setattr(Late, "read", aside)
        yield read


def prepared(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Enter the stage, and pack batches without being watched: that is done on the CPU wherever the model is."""
    span = enter(trainer)
    pack = Fit.batches

    def batches(fit: Fit, *given: Any) -> Any:
        with torch.utils._python_dispatch._disable_current_modes():
            return pack(fit, *given)

    monkeypatch.setattr(Fit, "batches", batches)
    for number in range(4):  # the first updates are watched, which waits
        update(trainer, span, number)
    return span


EVERYTHING = ["ema", "rrobin", "smart", "bregman"]
COMPOSITIONS = [["smart"], ["smart", "bregman"], ["ema", "rrobin"], ["vat"], ["r3f"], ["sam"], ["l2sp"], ["lora"]]


@pytest.mark.parametrize(
    "names", slow_but([[], EVERYTHING, *COMPOSITIONS], [[], EVERYTHING]), ids=lambda names: "+".join(names) or "plain"
)
def test_the_cpu_waits_once_an_update_and_only_behind_the_optimizers_step(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a GPU, that is: what would wait is refused on the CPU."""
    trainer = tiny_trainer({name: catalog.make(name, {}) for name in names}, tasks=tiny_tasks())
    span = prepared(trainer, monkeypatch)
    with as_on_a_gpu(monkeypatch) as read, without_waiting(monkeypatch):
        for number in range(4, 7):
            update(trainer, span, number)
    assert read == [True] * 3


@pytest.mark.slow
def test_a_sum_of_several_tasks_gradients_waits_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = tiny_trainer({"several": Several()}, tasks=tiny_tasks())
    span = prepared(trainer, monkeypatch)
    with as_on_a_gpu(monkeypatch) as read, without_waiting(monkeypatch):
        update(trainer, span, 4)
    assert read == [True]


WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda weight: weight.sum().item(),
    "bool": lambda weight: bool((weight > 0).all()),
    "mask": lambda weight: weight[weight > 0],
    "tolist": lambda weight: weight.tolist(),
    "cpu": lambda weight: weight.cpu(),
    "new_tensor": lambda weight: weight.new_tensor([1.0]),
    "repeat_interleave": lambda weight: torch.repeat_interleave(weight.long().clamp(0, 1).flatten()),
}


@pytest.mark.parametrize("wait", slow_but(WAITS, ["item"]))
def test_what_waits_would_be_noticed(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Waits:
        @hookimpl
        def before_step(self, model: torch.nn.Module) -> None:
            WAITS[wait](next(model.parameters()).detach())

    trainer = tiny_trainer({}, observers=[Waits()])
    span = prepared(trainer, monkeypatch)
    with as_on_a_gpu(monkeypatch), without_waiting(monkeypatch), pytest.raises(WaitsError):
        update(trainer, span, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize(
    "names", [[], ["smart", "bregman"], ["ema", "rrobin"]], ids=lambda names: "+".join(names) or "plain"
)
def test_on_a_gpu_torch_itself_finds_nothing_that_waits(names: list[str], tmp_path: Path) -> None:
    options = Options(write_encoder(tmp_path / "encoder"), write_tasks(tmp_path / "data"), "mood", batch_size=4)
    trainer = trainer_of(options, {name: {} for name in names})
    span = enter(trainer)
    for number in range(4):  # the first updates are watched, which waits
        update(trainer, span, number)
    try:
        torch.cuda.set_sync_debug_mode("error")
        update(trainer, span, 4)
    finally:
        torch.cuda.set_sync_debug_mode("default")
