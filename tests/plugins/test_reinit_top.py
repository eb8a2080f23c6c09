"""Re-initialised top layers: what begins anew, with which numbers, and what stays."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from regkit_plugins.bregman import Bregman
from regkit_plugins.ema import EMA
from regkit_plugins.freeze import Freeze
from regkit_plugins.lora import LoRA
from regkit_plugins.reinit_top import ReinitTop
from torch import Tensor

from regkit import MultitaskModel, PluginError, Streams, hookimpl
from regkit.hooks import catalog
from regkit.testing import TINY, Snapshot, tiny_tasks, tiny_trainer
from regkit.training.loop import Trainer
from regkit.training.stages import prepare
from tests.helpers import stages_of

POOLER, TOP, BOTTOM = "encoder.pooler.", "encoder.layers.1.", "encoder.layers.0."


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def used(plugins: Mapping[str, object], seed: int = 0) -> Trainer:
    """A trainer whose every weight looks trained: none is 0 or 1."""
    trainer = tiny_trainer(plugins, seed=seed)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.uniform_(2.0, 3.0, generator=generator)
    return trainer


def begin(trainer: Trainer) -> None:
    """As at the beginning of the run's one stage."""
    ((stage, tasks),) = stages_of(trainer)
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, tasks)


def renewed(layers: int, seed: int = 0, **others: object) -> dict[str, Tensor]:
    """The weights after `prepare`."""
    trainer = used({**others, "reinit_top": ReinitTop(layers)}, seed)
    begin(trainer)
    return weights(trainer)


@pytest.mark.parametrize(("layers", "parts"), [(0, ()), (1, (POOLER, TOP)), (2, (POOLER, TOP, BOTTOM))])
def test_the_pooler_and_the_top_layers_are_renewed_and_nothing_else(layers: int, parts: tuple[str, ...]) -> None:
    before, after = weights(used({})), renewed(layers)
    assert before.keys() == after.keys()
    for name, old in before.items():
        assert torch.equal(after[name], old) != name.startswith(parts or "none"), name
        if name.startswith(parts or "none"):
            assert not torch.isclose(after[name], old).any(), name


def test_renewed_weights_are_berts_own_and_layer_norms_the_identity() -> None:
    after = {name: weight for name, weight in renewed(2).items() if name.startswith((POOLER, TOP, BOTTOM))}
    matrices = {name: weight for name, weight in after.items() if weight.dim() == 2}
    for name, weight in after.items():
        if name in matrices:
            assert float(weight.std()) == pytest.approx(TINY.initializer_range, rel=0.2), name
            assert abs(float(weight.mean())) < 4 * TINY.initializer_range / weight.numel() ** 0.5, name
        else:
            assert torch.equal(weight, torch.full_like(weight, float("norm.weight" in name))), name
    joined = torch.cat([weight.flatten() for weight in matrices.values()]) / TINY.initializer_range
    assert float(joined.std()) == pytest.approx(1, abs=0.03)
    assert float(joined.pow(4).mean()) == pytest.approx(3, abs=0.3)  # a normal distribution, not a uniform one
    assert len(joined.unique()) > 0.99 * len(joined)  # no two layers share their weights


def test_the_numbers_are_those_of_the_plugins_own_stream() -> None:
    """The oracle draws them one matrix after the other, pooler first, from the stream of that plugin, hook and place."""
    streams = Streams(3)
    names = [name for part in (POOLER, TOP) for name in renewed(0) if name.startswith(part)]
    after = renewed(1, seed=3)
    with streams.at("finetune"), streams.seeded("reinit_top", "prepare"):
        for name in names:
            if after[name].dim() == 2:
                assert torch.equal(after[name], torch.randn(after[name].shape) * TINY.initializer_range), name


@dataclass
class Greedy:
    """Draws many numbers before others do."""

    @hookimpl(tryfirst=True)
    def prepare(self) -> None:
        torch.rand(1000)


def test_the_seed_alone_decides_what_the_new_weights_are() -> None:
    one = renewed(1)
    torch.manual_seed(12345)
    again, beside, other = renewed(1), renewed(1, greedy=Greedy()), renewed(1, seed=1)
    for name, weight in one.items():
        assert torch.equal(again[name], weight), name
        assert torch.equal(beside[name], weight), name
        if name.startswith((POOLER, TOP)) and weight.dim() == 2:
            assert not torch.isclose(other[name], weight).all(), name


def test_torchs_own_generator_is_left_as_it_was() -> None:
    state = torch.get_rng_state()
    renewed(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_more_layers_than_there_are_is_refused_in_a_sentence() -> None:
    with pytest.raises(PluginError) as caught:
        renewed(3)
    assert str(caught.value) == "'reinit_top' has layers=3, but the encoder has 2."
    with pytest.raises(PluginError, match="layers"):
        catalog.make("reinit_top", {"layers": -1})


@pytest.mark.parametrize("order", [["freeze", "reinit_top"], ["reinit_top", "freeze"]])
def test_a_frozen_encoder_is_refused_in_a_sentence_unless_nothing_is_renewed(order: list[str]) -> None:
    tasks = [task for task in tiny_tasks() if task.name != "cosine"]
    plugins = {"freeze": Freeze(), "reinit_top": ReinitTop(1)}
    with pytest.raises(PluginError) as caught:
        begin(tiny_trainer({name: plugins[name] for name in order}, tasks=tasks))
    assert (
        str(caught.value)
        == "'reinit_top' resets layers, but the encoder is frozen; leave it out, or what freezes the encoder."
    )
    plugins["reinit_top"] = ReinitTop(0)
    begin(tiny_trainer({name: plugins[name] for name in order}, tasks=tasks))


def test_layers_that_another_plugin_freezes_are_not_renewed() -> None:
    with pytest.raises(PluginError, match=r"resets layers whose weights another plugin keeps as they are"):
        renewed(1, lora=LoRA())
    renewed(0, lora=LoRA())


@dataclass
class Before:
    """The weights before each update and at each evaluation."""

    updates: list[dict[str, Tensor]] = field(default_factory=list, init=False)
    trainer: Trainer | None = field(default=None, init=False)

    @hookimpl
    def before_step(self, model: MultitaskModel) -> None:
        self.updates.append(copy.deepcopy(dict(model.named_parameters())))


def test_a_run_begins_with_the_renewed_layers_and_trains_them() -> None:
    before = Before()
    trainer = tiny_trainer({"reinit_top": ReinitTop(1), "before": before}, steps=2)
    started = weights(trainer)
    trainer.train()
    first, second = before.updates
    for name in (f"{TOP}down.weight", f"{POOLER}weight"):
        assert not torch.isclose(first[name], started[name]).all()
        assert not torch.equal(second[name], first[name])


def test_a_resumed_run_goes_on_with_its_layers_and_does_not_renew_them_again() -> None:
    stop, before = Snapshot(after=3), Before()
    stopped = tiny_trainer({"reinit_top": ReinitTop(2)}, observers=[stop])
    stop.trainer = stopped
    stopped.train()
    resumed = tiny_trainer({"reinit_top": ReinitTop(2), "before": before})
    resumed.model.load_state_dict(stop.model)
    resumed.state.load(stop.training)
    resumed.train()
    assert len(before.updates) == 3
    for name, weight in before.updates[0].items():
        assert torch.equal(weight, stop.model[name]), name


@pytest.mark.parametrize("order", [["ema", "bregman", "reinit_top"], ["reinit_top", "bregman", "ema"]])
def test_plugins_that_copy_the_model_copy_it_with_its_new_layers(order: list[str]) -> None:
    plugins = {"ema": EMA(), "bregman": Bregman(), "reinit_top": ReinitTop(1)}
    trainer = used({name: plugins[name] for name in order})
    begin(trainer)
    now = weights(trainer)
    assert not torch.isclose(now[f"{TOP}up.weight"], weights(used({}))[f"{TOP}up.weight"]).any()
    for copied in (plugins["ema"].average, plugins["bregman"].teacher):
        for name, weight in copied.named_parameters():
            assert torch.equal(weight, now[name]), name
