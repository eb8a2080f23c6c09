"""SAM against a hand-written one: the two passes of Algorithm 1, number by number, in float64."""

import copy
import math
from collections.abc import Mapping
from itertools import product

import pytest
import torch
from regkit_plugins.l2sp import L2SP
from regkit_plugins.mixout import Mixout
from regkit_plugins.r3f import R3F
from regkit_plugins.sam import SAM
from regkit_plugins.smart import Smart
from torch import Tensor, nn

from regkit import Batch, Predict, hookimpl
from regkit.data.order import Feed
from regkit.tasks.task import Stage, Task
from regkit.testing import tiny_task, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.loop import Trainer
from regkit.training.stages import make_optimizer, prepare
from regkit.training.update import Chosen, Update
from tests.helpers import stages_of
from tests.plugins.cases import table

WHOLE, CUT = 10_000, 15  # tokens in a micro-batch

OTHERS = {
    "alone": dict,
    "smart": lambda: {"smart": Smart()},
    "r3f": lambda: {"r3f": R3F()},
    "l2sp": lambda: {"l2sp": L2SP(weight=0.5)},
    "mixout": lambda: {"mixout": Mixout(p=0.5)},
}


def prepared(trainer: Trainer) -> Trainer:
    """The trainer in float64, as it is when its first update begins."""
    trainer.model.double().train()
    ((stage, tasks),) = stages_of(trainer)
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, tasks)
        trainer.state.optimizer = make_optimizer(trainer.hook, trainer.model, stage)
    return trainer


def batches(tasks: list[Task], budget: int = WHOLE, number: int = 0) -> Chosen:
    return [(task, Feed(task, 0, "finetune").micro_batches(number, budget)) for task in tasks]


def before_step(trainer: Trainer, chosen: Chosen) -> dict[str, Tensor]:
    """Compute an update's gradient and hand it to the plugins, as the loop does; what the optimizer would step with."""
    optimizer = trainer.state.optimizer
    update = Update(trainer.passes, optimizer, chosen)
    with trainer.streams.at("finetune", 0):
        update.compute()
        trainer.hook.before_step(model=trainer.model, optimizer=optimizer, recompute=update.compute)
    return gradients(trainer.model)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def ascent(trainer: Trainer, chosen: Chosen, rho: float) -> dict[str, Tensor]:
    """Algorithm 1 by hand: the gradient at the point that is rho uphill. The weights are where they were."""
    parameters = dict(trainer.model.named_parameters())

    def gradient() -> dict[str, Tensor]:
        trainer.model.zero_grad()
        for task, parts in chosen:
            examples = sum(len(part) for part in parts)
            for number, batch in enumerate(parts):
                with trainer.streams.within(task.name, number):  # where the masks come from
                    loss = sum(trainer.passes.losses(task, batch).values())
                (loss * len(batch) / examples).backward()
        return gradients(trainer.model)

    first = gradient()
    length = math.sqrt(sum(number**2 for each in first.values() for number in each.flatten().tolist()))
    start = {name: parameters[name].detach().clone() for name in first}
    with torch.no_grad():
        for name in first:
            parameters[name] += rho * first[name] / length
    second = gradient()
    with torch.no_grad():
        for name in first:
            parameters[name].copy_(start[name])
    return second


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], rtol: float = 1e-9, atol: float = 1e-12) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=rtol, atol=atol, msg=(name + ": {}").format)


@pytest.mark.parametrize(
    ("others", "budget"),
    table(product(OTHERS, (WHOLE, CUT)), [("alone", WHOLE), *((each, CUT) for each in OTHERS)]),
)
def test_the_optimizer_is_given_the_gradient_of_the_hand_written_second_pass(others: str, budget: int) -> None:
    """With dropout on, so both passes must have the same masks; terms of other plugins belong to both."""
    rho = 0.5
    trainer = prepared(tiny_trainer({"sam": SAM(rho=rho), **OTHERS[others]()}, dropout=0.3))
    slow = prepared(tiny_trainer(OTHERS[others](), dropout=0.3))
    for task in tiny_tasks() if others == "alone" else tiny_tasks()[::3]:
        chosen = batches([task], budget)
        assert len(chosen[0][1]) > 1 or budget == WHOLE
        ours = before_step(trainer, chosen)
        with slow.streams.at("finetune", 0):
            same(ours, ascent(slow, chosen, rho))


def test_the_gradient_of_several_tasks_in_one_update_is_climbed_as_one() -> None:
    trainer, slow = prepared(tiny_trainer({"sam": SAM(rho=0.5)})), prepared(tiny_trainer({}))
    chosen = batches(tiny_tasks())
    ours = before_step(trainer, chosen)
    with slow.streams.at("finetune", 0):
        same(ours, ascent(slow, chosen, 0.5))


def test_a_run_is_that_of_a_loop_with_two_passes_a_clipped_second_gradient_and_adamw() -> None:
    task, steps, clip = tiny_tasks()[0], 3, 0.2
    trainer = tiny_trainer({"sam": SAM(rho=0.5)}, tasks=[task], steps=steps)
    trainer.clip = clip
    trainer.model.double()
    trainer.train()

    slow = prepared(tiny_trainer({}, tasks=[task], steps=steps))
    parameters = list(slow.model.parameters())
    decayed = [each for each in parameters if each.dim() > 1]
    others = [each for each in parameters if each.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, foreach=False)
    lengths = []
    for step, rate in enumerate([1.0, 2 / 2.7, 1 / 2.7]):  # a warm-up of 0.3 updates, then down to 0
        with slow.streams.at("finetune", step):
            ascent(slow, batches([task], number=step), 0.5)
        lengths.append(math.sqrt(sum(float(each.grad.square().sum()) for each in parameters)))
        for each in parameters:
            each.grad *= min(clip / (lengths[-1] + 1e-6), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * rate
        optimizer.step()
    assert min(lengths) > clip
    # The bias of keys has no gradient but rounding, of which AdamW makes steps of 1e-12.
    same(dict(trainer.model.named_parameters()), dict(slow.model.named_parameters()), rtol=1e-6, atol=1e-10)


class Noting(torch.optim.SGD):
    """Notes the length of the gradient at every step."""

    def step(self, closure: None = None) -> None:
        parts = [
            each.grad.flatten() for group in self.param_groups for each in group["params"] if each.grad is not None
        ]
        self.lengths = [*getattr(self, "lengths", []), float(torch.cat(parts).norm())]
        super().step(closure)


class Noted:
    @hookimpl
    def make_optimizer(self, model: nn.Module, stage: Stage) -> torch.optim.Optimizer:
        return Noting(model.parameters(), lr=stage.learning_rate)


@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_what_is_clipped_is_the_second_gradient(clip: float) -> None:
    trainer = tiny_trainer({"sam": SAM(rho=2.0), "noted": Noted()}, tasks=unscored(tiny_tasks()), steps=2)
    trainer.clip = clip
    trainer.train()
    assert len(trainer.state.optimizer.lengths) == 2
    for length in trainer.state.optimizer.lengths:
        assert length == pytest.approx(clip, rel=2e-3) if clip else length > 0.01


class Net(nn.Module):
    """Two tensors, so that lengths are easy to know."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.other = nn.Parameter(torch.tensor([[3.0], [5.0]]))
        self.unused = nn.Parameter(torch.tensor([7.0]))
        self.one.grad, self.other.grad = torch.tensor([3.0, 0.0]), torch.tensor([[0.0], [4.0]])  # 5 long together


def test_it_climbs_rho_along_the_gradient_of_all_tensors_together() -> None:
    net, seen = Net(), []
    SAM(rho=0.5).before_step(net, lambda: seen.append(copy.deepcopy(net)))
    (there,) = seen
    torch.testing.assert_close(there.one, torch.tensor([1.3, 2.0]))
    torch.testing.assert_close(there.other, torch.tensor([[3.0], [5.4]]))
    assert torch.equal(there.unused, net.unused)


def test_a_gradient_of_zero_moves_nothing_and_divides_by_nothing() -> None:
    net, seen = Net(), []
    net.one.grad.zero_()
    net.other.grad.zero_()
    SAM(rho=0.5).before_step(net, lambda: seen.append(copy.deepcopy(net)))
    (there,) = seen
    for name, parameter in Net().named_parameters():
        assert torch.equal(there.get_parameter(name), parameter)
        assert torch.equal(net.get_parameter(name), parameter)


@pytest.mark.parametrize("rho", [0.05, 3.0, 1e4])
def test_weights_come_back_bit_for_bit(rho: float) -> None:
    """And so they do after their type has changed."""
    trainer = prepared(tiny_trainer({"sam": SAM(rho=rho)}))
    for dtype in (torch.float32, torch.float64):
        trainer.model.to(dtype)
        with torch.no_grad():
            before = {name: parameter.mul_(1 + 1e-9).clone() for name, parameter in trainer.model.named_parameters()}
        before_step(trainer, batches([tiny_tasks()[0]]))
        for name, parameter in trainer.model.named_parameters():
            assert torch.equal(parameter, before[name]), name


def test_the_weights_are_kept_in_the_same_memory_from_update_to_update() -> None:
    plugin = SAM(rho=0.5)
    trainer = prepared(tiny_trainer({"sam": plugin}))
    places = []
    for number in range(2):
        before_step(trainer, batches(tiny_tasks()[:1], number=number))
        places.append({each.data_ptr() for each in plugin.weights.values()})
    assert places[0] == places[1]


def test_the_second_pass_differs_from_the_first_by_the_weights_alone() -> None:
    """At a radius of nothing it gives the first gradient again: same batch, same masks, and not the sum of both."""
    for plugins in ({}, {"r3f": R3F()}, {"mixout": Mixout(p=0.5)}):
        chosen = batches([tiny_tasks()[0]], CUT)
        first = before_step(prepared(tiny_trainer(copy.deepcopy(plugins), dropout=0.3)), chosen)
        second = before_step(prepared(tiny_trainer({"sam": SAM(rho=1e-12), **plugins}, dropout=0.3)), chosen)
        same(second, first, rtol=1e-8)


@pytest.mark.parametrize("others", ["alone", "smart", "l2sp"])
def test_under_micro_batches_it_climbs_the_accumulated_gradient(others: str) -> None:
    found = []
    for budget in (WHOLE, CUT):
        trainer = prepared(tiny_trainer({"sam": SAM(rho=1.0), **OTHERS[others]()}, dropout=0.0))
        found.append(before_step(trainer, batches([tiny_tasks()[0]], budget)))
    same(found[1], found[0], rtol=1e-7)
    without = before_step(prepared(tiny_trainer(OTHERS[others](), dropout=0.0)), batches([tiny_tasks()[0]]))
    name = "encoder.layers.0.up.weight"
    assert not torch.allclose(found[0][name], without[name], rtol=0.05)  # the radius is one that acts


class Witness:
    """Notes the rows of every batch that losses are asked of, and how often an update is done."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, ...]] = []
        self.losses: list[float] = []

    @hookimpl
    def extra_losses(self, batch: Batch, embeddings: Tensor, predict: Predict) -> Mapping[str, Tensor]:
        self.rows.append(batch.rows)
        return {"witness": 0 * predict(embeddings).sum()}

    @hookimpl
    def after_step(self, losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.losses += [float(terms["task"]) for terms in losses.values()]


def test_both_passes_read_the_same_batches_and_the_loss_that_is_told_is_that_of_the_weights_themselves() -> None:
    task = tiny_task("classes", tiny_tasks()[0].objective, batch_size=8)
    climbing, plain = Witness(), Witness()
    tiny_trainer({"sam": SAM(rho=1.0), "witness": climbing}, tasks=[task], steps=1, micro_batch_tokens=CUT).train()
    tiny_trainer({"witness": plain}, tasks=[task], steps=1, micro_batch_tokens=CUT).train()
    assert len(plain.rows) > 1
    assert climbing.rows == 2 * plain.rows
    assert climbing.losses == plain.losses


def test_the_state_of_the_optimizer_is_not_touched() -> None:
    trainer = tiny_trainer({"sam": SAM(rho=0.5)}, tasks=unscored(tiny_tasks()), steps=2)
    trainer.train()
    before = copy.deepcopy(trainer.state.optimizer.state_dict())
    assert before["state"]
    trainer.model.train()
    before_step(trainer, batches([tiny_tasks()[1]]))
    after = trainer.state.optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert after["state"].keys() == before["state"].keys()
    for number, values in before["state"].items():
        for name, value in values.items():
            assert torch.equal(torch.as_tensor(after["state"][number][name]), torch.as_tensor(value)), name


def test_heads_of_other_tasks_and_a_frozen_encoder_stay_without_a_gradient() -> None:
    trainer, task = prepared(tiny_trainer({"sam": SAM(rho=0.5)})), tiny_tasks()[0]
    trainer.model.encoder.requires_grad_(False)
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    found = before_step(trainer, batches([task]))
    assert found.keys() == {"heads.classes.linear.weight", "heads.classes.linear.bias"}
    assert all(torch.equal(parameter, before[name]) for name, parameter in trainer.model.named_parameters())
