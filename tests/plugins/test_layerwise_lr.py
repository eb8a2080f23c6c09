"""Layer-wise rates against an AdamW whose groups are written by hand, and beside whatever else shapes the optimizer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from regkit_plugins.freeze import Freeze
from regkit_plugins.layerwise_lr import LayerwiseLR
from regkit_plugins.mixout import Mixout

from regkit import MultitaskModel, PluginError, Stage, hookimpl
from regkit.testing import same_weights, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.loop import Trainer
from regkit.training.stages import make_optimizer, prepare
from tests.helpers import stages_of

PEAK = 1e-2  # of `tiny_trainer`


def depth(name: str) -> int:
    """How often a parameter of the tiny model, which has two layers, is decayed; by its name alone."""
    if name.startswith(("heads.", "encoder.pooler.")):
        return 0
    return {"1": 1, "0": 2}[found[1]] if (found := re.match(r"encoder\.layers\.(\d)\.", name)) else 3


def prepared(trainer: Trainer) -> torch.optim.Optimizer:
    """The optimizer of the run's one stage."""
    ((stage, tasks),) = stages_of(trainer)
    prepare(trainer.hook, trainer.model, stage, tasks)
    return make_optimizer(trainer.hook, trainer.model, stage)


def groups_of(trainer: Trainer, optimizer: torch.optim.Optimizer) -> Mapping[str, Mapping[str, float]]:
    """The options of the one group that each parameter is in, by the parameter's name; those of no group are left out."""
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names.get(id(parameter), "not the model's")
            assert name not in found, f"{name} is in two groups"
            found[name] = {key: value for key, value in group.items() if key != "params"}
    return found


@pytest.mark.parametrize("decay", [0.95, 0.5, 1.0])
def test_every_parameter_has_the_rate_of_its_depth_and_is_in_one_group(decay: float) -> None:
    trainer = tiny_trainer({"layerwise_lr": LayerwiseLR(decay)})
    groups = groups_of(trainer, prepared(trainer))
    assert groups.keys() == dict(trainer.model.named_parameters()).keys()
    for name, group in groups.items():
        assert group["lr"] == pytest.approx(PEAK * decay ** depth(name), rel=1e-12), name
        assert group["initial_lr"] == group["lr"], name


def test_the_examples_of_the_docstring_in_numbers() -> None:
    trainer = tiny_trainer({"layerwise_lr": LayerwiseLR(0.5)})
    groups = groups_of(trainer, prepared(trainer))
    rates = {
        "heads.classes.linear.weight": 1e-2,
        "encoder.pooler.bias": 1e-2,
        "encoder.layers.1.norm.weight": 5e-3,
        "encoder.layers.0.up.weight": 2.5e-3,
        "encoder.word.weight": 1.25e-3,
        "encoder.position.weight": 1.25e-3,
        "encoder.segment.weight": 1.25e-3,
        "encoder.norm.bias": 1.25e-3,
    }
    assert {name: groups[name]["lr"] for name in rates} == pytest.approx(rates)


def test_all_else_of_the_groups_is_as_it_was_weight_decay_above_all() -> None:
    plain, decayed = tiny_trainer({}), tiny_trainer({"layerwise_lr": LayerwiseLR(0.5)})
    before, after = groups_of(plain, prepared(plain)), groups_of(decayed, prepared(decayed))
    rates = {"lr", "initial_lr"}
    for name, group in before.items():
        assert {key: value for key, value in after[name].items() if key not in rates} == {
            key: value for key, value in group.items() if key not in rates
        }
    assert {group["weight_decay"] for group in after.values()} == {0.0, 0.01}


def test_the_first_group_has_the_rate_of_the_stage_which_is_the_one_that_the_log_shows() -> None:
    assert prepared(tiny_trainer({"layerwise_lr": LayerwiseLR(0.5)})).param_groups[0]["lr"] == PEAK


@dataclass
class ByHand:
    """An AdamW with a group for each parameter, its rate found by name."""

    decay: float

    @hookimpl
    def make_optimizer(self, model: MultitaskModel, stage: Stage) -> torch.optim.Optimizer:
        groups = [
            {
                "params": [parameter],
                "lr": stage.learning_rate * self.decay ** depth(name),
                "weight_decay": stage.weight_decay if parameter.dim() > 1 else 0.0,
            }
            for name, parameter in model.named_parameters()
        ]
        return torch.optim.AdamW(groups, fused=True)


@dataclass
class Rates:
    """The rate of every group at every step, as a share of its peak."""

    shares: list[list[float]] = field(default_factory=list, init=False)

    @hookimpl
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.shares.append([group["lr"] / group["initial_lr"] for group in optimizer.param_groups])


def test_the_weights_are_those_of_an_optimizer_with_groups_written_by_hand() -> None:
    """Bit for bit after 12 updates with the schedule, dropout and clipping on."""
    decayed = tiny_trainer({"layerwise_lr": LayerwiseLR(0.7)}, tasks=unscored(tiny_tasks()), steps=12)
    by_hand = tiny_trainer({"by hand": ByHand(0.7)}, tasks=unscored(tiny_tasks()), steps=12)
    decayed.train()
    by_hand.train()
    same_weights(decayed, by_hand)


def test_the_schedule_moves_all_groups_alike() -> None:
    rates = Rates()
    tiny_trainer({"rates": rates, "layerwise_lr": LayerwiseLR(0.5)}, tasks=unscored(tiny_tasks()), steps=5).train()
    for shares, share in zip(
        rates.shares, [1.0, 0.8889, 0.6667, 0.4444, 0.2222], strict=True
    ):  # a warm-up of half a step
        assert len(shares) == 8  # four depths, with weight decay and without
        assert shares == pytest.approx([share] * len(shares), abs=1e-3)


@dataclass
class Momentum:
    """Decides the optimizer: SGD, where the embeddings already have a rate of their own, and so has one weight of the plugin."""

    @hookimpl
    def make_optimizer(self, model: MultitaskModel) -> torch.optim.Optimizer:
        words, own = model.encoder.word.weight, torch.nn.Parameter(torch.zeros(()))
        others = [parameter for parameter in model.parameters() if parameter is not words]
        groups = [{"params": others}, {"params": [words], "lr": 8.0}, {"params": [own], "lr": 3.0, "momentum": 0.0}]
        return torch.optim.SGD(groups, lr=1.0, momentum=0.9)


@pytest.mark.parametrize("order", [["momentum", "layerwise_lr"], ["layerwise_lr", "momentum"]])
def test_the_optimizer_of_another_plugin_keeps_its_kind_and_its_own_rates_are_decayed(order: list[str]) -> None:
    plugins = {"momentum": Momentum(), "layerwise_lr": LayerwiseLR(0.5)}
    trainer = tiny_trainer({name: plugins[name] for name in order})
    optimizer = prepared(trainer)
    assert type(optimizer) is torch.optim.SGD
    for name, group in groups_of(trainer, optimizer).items():
        if name == "not the model's":
            assert (group["lr"], group["momentum"]) == (3.0, 0.0)
        else:
            peak = 8.0 if name == "encoder.word.weight" else 1.0
            assert (group["lr"], group["momentum"]) == (pytest.approx(peak * 0.5 ** depth(name)), 0.9)


def test_a_frozen_encoder_is_refused_in_a_sentence_unless_all_layers_have_one_rate() -> None:
    tasks = [task for task in tiny_tasks() if task.name != "cosine"]
    with pytest.raises(PluginError) as refused:
        prepared(tiny_trainer({"layerwise_lr": LayerwiseLR(0.5), "freeze": Freeze(0.25)}, tasks=tasks))
    remedy = "but the encoder is frozen; leave it out, or what freezes the encoder."
    assert str(refused.value) == f"'layerwise_lr' slows the layers of the encoder, {remedy}"
    trainer = tiny_trainer({"layerwise_lr": LayerwiseLR(1.0), "freeze": Freeze(0.25)}, tasks=tasks)
    optimizer = prepared(trainer)
    groups = groups_of(trainer, optimizer)
    assert groups.keys() == {f"heads.{task.name}.linear.{kind}" for task in tasks for kind in ("weight", "bias")}
    assert {group["lr"] for group in groups.values()} == {0.25}
    assert all(group["params"] for group in optimizer.param_groups)


def test_layers_that_another_plugin_swapped_keep_their_depth() -> None:
    trainer = tiny_trainer({"layerwise_lr": LayerwiseLR(0.5), "mixout": Mixout(0.5)})
    groups = groups_of(trainer, prepared(trainer))
    assert groups.keys() == dict(trainer.model.named_parameters()).keys()
    assert all(group["lr"] == pytest.approx(PEAK * 0.5 ** depth(name)) for name, group in groups.items())
