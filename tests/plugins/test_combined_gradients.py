"""Every plugin that combines gradients, on a tiny model: each task's own gradient, heads, resuming, the meter."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from regkit_plugins.cagrad import CAGrad
from regkit_plugins.gradnorm import GradNorm
from regkit_plugins.gradvac import GradVac
from regkit_plugins.l2sp import L2SP
from regkit_plugins.pcgrad import PCGrad
from regkit_plugins.smart import Smart
from regkit_plugins.torchjd import TorchJD
from torch import Tensor

from regkit import PluginError, hookimpl
from regkit.data.order import Feed
from regkit.tasks.task import Stage, Task
from regkit.testing import measured, same_weights, tiny_trainer
from regkit.training.effects import summary
from regkit.training.loop import Trainer
from tests.helpers import Both, slow_but
from tests.plugins.cases import table
from tests.plugins.rows import Orders, dual, gradvac_by_rows, named, pcgrad_by_rows, three
from tests.plugins.updates import CUT, WHOLE, compute, prepared

aggregation = pytest.importorskip("torchjd.aggregation")

Combined = list[Tensor]  # every answer that some order of the tasks gives


def every_order(count: int) -> Iterator[Orders]:
    """All ways in which each of the tasks may meet the others."""
    yield from product(*(permutations([j for j in range(count) if j != i]) for i in range(count)))


def is_one_of(found: Tensor, answers: Sequence[Tensor], rtol: float = 1e-9) -> bool:
    scale = max(float(each.norm()) for each in answers)
    return any(float((found - each).norm()) <= rtol * scale for each in answers)


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


def moved(plugins: Mapping[str, Any], dropout: float) -> Trainer:
    """A trainer of all three tasks whose first update is to begin, at weights that a run has moved."""
    trainer = prepared({"both": Both(), **plugins}, three(), dropout)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return trainer


def gradients(trainer: Trainer, tasks: Sequence[Task], budget: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient of the shared parameters as one vector, and those of the heads by name."""
    compute(trainer, tasks, budget)
    encoder = trainer.model.encoder.parameters()
    shared = [torch.zeros_like(each).flatten() if each.grad is None else each.grad.flatten() for each in encoder]
    heads = {name: each.grad.clone() for name, each in trainer.model.heads.named_parameters() if each.grad is not None}
    return torch.cat(shared), heads


@pytest.mark.parametrize(
    ("others", "budget"), table(product(OTHERS, (WHOLE, CUT)), [("alone", WHOLE), ("smart and l2sp", CUT)])
)
@pytest.mark.parametrize("surgeon", SURGEONS)
def test_an_update_has_what_the_algorithm_makes_of_each_tasks_own_gradient(
    surgeon: str, others: str, budget: int
) -> None:
    """Terms of regularizers are in their task's row, heads keep their own task's gradient, and dropout is on."""
    kind, answers, rtol = SURGEONS[surgeon]
    combined, heads = gradients(moved({**OTHERS[others](), surgeon: kind()}, 0.3), three(), budget)
    rows, alone = [], {}
    for task in three():
        row, head = gradients(moved(OTHERS[others](), 0.3), [task], budget)
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


@pytest.mark.parametrize("others", slow_but(OTHERS, ["smart and l2sp"]))
@pytest.mark.parametrize("surgeon", SURGEONS)
def test_micro_batches_do_not_show_in_a_combined_gradient(surgeon: str, others: str) -> None:
    found = []
    for budget in (WHOLE, CUT):
        trainer = moved({**OTHERS[others](), surgeon: SURGEONS[surgeon][0]()}, 0.0)
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
    operated = tiny_trainer({surgeon: SURGEONS[surgeon][0]()}, tasks=three(), steps=2)
    untouched = tiny_trainer({}, tasks=three(), steps=2)
    operated.train()
    untouched.train()
    same_weights(operated, untouched)


@pytest.mark.parametrize("surgeon", SURGEONS)
def test_a_frozen_encoder_has_nothing_to_operate_on_and_is_refused(surgeon: str) -> None:
    plugins = {"both": Both(), "frozen": Frozen(), surgeon: SURGEONS[surgeon][0]()}
    with pytest.raises(
        PluginError, match=rf"^'{surgeon}' looks at .*, but the encoder is frozen in stage 'finetune'; "
    ):
        tiny_trainer(plugins, tasks=three(), steps=1).train()


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
        trainer = tiny_trainer({"both": Both(), surgeon: SURGEONS[surgeon][0]()}, tasks=three(), steps=2)
        states = random.getstate(), torch.get_rng_state()
        trainer.train()
        assert random.getstate() == states[0]
        assert torch.equal(torch.get_rng_state(), states[1])
        trainers.append(trainer)
    same_weights(*trainers)


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


@pytest.mark.parametrize(
    "plugin", slow_but([None, L2SP, GradNorm, *(kind for kind, _, _ in SURGEONS.values())], [L2SP, GradNorm, PCGrad])
)
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
