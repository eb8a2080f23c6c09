"""The domain stage in a run: before fine-tuning, with its own plugins, and resumed exactly."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from regkit_plugins.bregman import Bregman
from regkit_plugins.ema import EMA
from regkit_plugins.r3f import R3F
from regkit_plugins.rdrop import RDrop
from regkit_plugins.rrobin import RoundRobin
from regkit_plugins.smart import Smart
from regkit_plugins.uncertainty import Uncertainty
from torch import Tensor

from regkit import hookimpl
from regkit.data.order import Feed
from regkit.model import MultitaskModel
from regkit.tasks.task import Stage
from regkit.testing import Snapshot, same_weights, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.loop import Trainer
from regkit.training.stages import make_optimizer, measure_length, prepare
from tests.helpers import compute, slow_but, stages_of
from tests.plugins.domain.helpers import STEPS, domain, write_corpus

FEW = 3  # of fine-tuning


class Watch:
    """An observer of stages, tasks and terms of the updates, and of the weights when fine-tuning begins."""

    trainer: Trainer

    def __init__(self) -> None:
        self.steps: list[tuple[str, tuple[str, ...]]] = []  # of each update, its stage and its tasks
        self.terms: dict[str, set[str]] = {}
        self.rates: dict[str, list[float]] = {}
        self.scores: dict[str, list[dict[str, Any]]] = {}
        self.weights: dict[str, Tensor] = {}

    @hookimpl(trylast=True)
    def prepare(self, stage: Stage, model: MultitaskModel) -> None:
        if stage.name == "finetune":
            self.weights = {name: each.detach().clone() for name, each in model.named_parameters()}

    @hookimpl(trylast=True)
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.rates.setdefault(str(self.trainer.streams.place[0]), []).append(optimizer.param_groups[0]["lr"])

    @hookimpl(trylast=True)
    def after_step(self, losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        stage = str(self.trainer.streams.place[0])
        self.steps.append((stage, tuple(losses)))
        for found in losses.values():
            self.terms.setdefault(stage, set()).update(found.keys() - {"rdrop second"})

    @hookimpl(trylast=True)
    def evaluated(self, stage: Stage, scores: Mapping[str, Any]) -> None:
        self.scores.setdefault(stage.name, []).append(dict(scores))


def watched(plugins: Mapping[str, Any], **options: Any) -> tuple[Watch, Trainer]:
    watch = Watch()
    watch.trainer = tiny_trainer(plugins, tasks=tiny_tasks()[:2], steps=FEW, observers=[watch], **options)
    watch.trainer.train()
    return watch, watch.trainer


def test_the_stage_comes_before_fine_tuning_and_has_its_own_tasks_and_learning_rate(corpus: str) -> None:
    watch, trainer = watched({"domain": domain(corpus)})
    assert [stage for stage, _ in watch.steps] == ["domain"] * STEPS + ["finetune"] * FEW
    assert {name for stage, names in watch.steps if stage == "domain" for name in names} == {"mlm", "nsp"}
    assert not {name for stage, names in watch.steps if stage == "finetune" for name in names} & {"mlm", "nsp"}
    assert [stage.learning_rate for stage, _ in stages_of(trainer)] == [1e-2, 1e-2]
    other, _ = watched({"domain": domain(corpus, learning_rate=2e-2)})
    assert other.rates["domain"] == [2 * rate for rate in watch.rates["domain"]]
    assert other.rates["finetune"] == watch.rates["finetune"]


def test_masked_words_and_pairs_are_scored_before_and_after_each_epoch(corpus: str) -> None:
    watch, trainer = watched({"domain": domain(corpus, steps=None, epochs=2)})
    (stage, tasks), _ = stages_of(trainer)
    epoch, total = measure_length(trainer.hook, trainer.streams, stage, tasks)
    assert total == 2 * epoch == 2 * sum(task.batches for task in tasks)
    assert len(watch.scores["domain"]) == 3
    for scores in watch.scores["domain"]:
        assert scores["mlm"].keys() == {"accuracy", "perplexity", "loss"}
        assert scores["mlm"]["perplexity"] == pytest.approx(np.exp(scores["mlm"]["loss"]))
        assert scores.keys() == {"mlm", "nsp"}


def test_words_are_learned(tmp_path: Path) -> None:
    few = write_corpus(tmp_path / "few.txt", [[[10, 11, 12, 13, 14, 15] for _ in range(4)] for _ in range(12)])
    watch, _ = watched({"domain": domain(few, steps=40)})
    first, *_, last = (scores["mlm"]["loss"] for scores in watch.scores["domain"])
    assert last < 0.6 * first


def test_a_batch_in_micro_batches_gives_the_gradient_of_the_whole_though_their_masked_words_differ(
    corpus: str,
) -> None:
    found = []
    for budget in (10_000, 40):
        trainer = tiny_trainer({"domain": domain(corpus, mask=0.4, batch_size=8)}, dropout=0.0)
        (stage, (task, _)), _ = stages_of(trainer)
        prepare(trainer.hook, trainer.model, stage, [task])
        parts = Feed(task, 0, stage.name).micro_batches(1, budget)
        with trainer.streams.at(stage.name, 0):
            losses = compute(trainer, make_optimizer(trainer.hook, trainer.model, stage), [(task, parts)])
        found.append((losses["mlm"]["task"], parts, trainer))
    (whole, (batch,), one), (summed, parts, other) = found
    assert len({part.predictions / len(part) for part in parts}) > 1
    assert sum(part.predictions for part in parts) == batch.predictions
    torch.testing.assert_close(summed, whole, rtol=1e-5, atol=0)
    for (name, first), second in zip(one.model.named_parameters(), other.model.parameters(), strict=True):
        if first.grad is not None:
            torch.testing.assert_close(second.grad, first.grad, rtol=1e-4, atol=1e-6, msg=(name + ": {}").format)


REGULARIZERS = {
    "smart": lambda: Smart(weight=0.5),
    "rdrop": lambda: RDrop(weight=0.5),
    "r3f": lambda: R3F(weight=0.5),
    "bregman": lambda: Bregman(weight=0.5),
}


@pytest.mark.parametrize("name", slow_but(REGULARIZERS, ["bregman"]))
def test_a_regularizer_acts_in_the_stage_where_it_is_named_and_leaves_it_alone_by_default(
    name: str, corpus: str
) -> None:
    make = REGULARIZERS[name]
    without, _ = watched({"domain": domain(corpus)})
    silent, _ = watched({"domain": domain(corpus), name: make()})
    active, _ = watched({"domain": domain(corpus), name: make()}, stages={name: ["domain", "finetune"]})
    only, _ = watched({"domain": domain(corpus), name: make()}, stages={name: ["domain"]})
    for parameter, tensor in without.weights.items():
        assert torch.equal(silent.weights[parameter], tensor), parameter
    assert silent.terms == {"domain": {"task"}, "finetune": {"task", name}}
    assert active.terms == {"domain": {"task", name}, "finetune": {"task", name}}
    assert only.terms == {"domain": {"task", name}, "finetune": {"task"}}
    assert any(not torch.equal(active.weights[parameter], tensor) for parameter, tensor in without.weights.items())
    assert all(torch.equal(active.weights[parameter], tensor) for parameter, tensor in only.weights.items())


def test_a_scheduler_acts_where_it_is_named(corpus: str) -> None:
    plugins = {"domain": domain(corpus), "rrobin": RoundRobin(per_step=2)}
    default, _ = watched(dict(plugins))
    named, _ = watched({"domain": domain(corpus), "rrobin": RoundRobin(per_step=2)}, stages={"rrobin": ["domain"]})
    assert [len(names) for _, names in default.steps] == [1] * STEPS + [2] * FEW
    assert [len(names) for _, names in named.steps] == [2] * STEPS + [1] * FEW


BOTH = ["domain", "finetune"]
RESUMED: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, list[str]], int]] = {
    "alone": (dict, {}, 4),
    "ema, before it begins": (lambda: {"ema": EMA()}, {}, 4),
    "ema, after it began": (lambda: {"ema": EMA()}, {}, 7),
    "ema in both": (lambda: {"ema": EMA()}, {"ema": BOTH}, 7),
    "ema in the stage": (lambda: {"ema": EMA()}, {"ema": ["domain"]}, 4),
    "ema in the stage, over": (lambda: {"ema": EMA()}, {"ema": ["domain"]}, 7),
    "uncertainty": (lambda: {"uncertainty": Uncertainty()}, {}, 4),
    "uncertainty in both": (lambda: {"uncertainty": Uncertainty()}, {"uncertainty": BOTH}, 4),
    "bregman in both": (lambda: {"bregman": Bregman()}, {"bregman": BOTH}, 4),
    "smart in both": (lambda: {"smart": Smart()}, {"smart": BOTH}, 1),
    "domain in its stage": (lambda: {"ema": EMA()}, {"domain": ["domain"]}, 7),
    "domain in fine-tuning": (lambda: {"ema": EMA()}, {"domain": ["finetune"]}, 4),
}


@pytest.mark.parametrize("beside", slow_but(RESUMED, list(RESUMED)[::4]))
def test_a_run_stopped_in_either_stage_resumes_exactly(beside: str, corpus: str) -> None:
    """The stage has five updates, fine-tuning three."""
    make, stages, after = RESUMED[beside]

    def trainer(observers: Sequence[object] = ()) -> Trainer:
        chosen = {"domain": domain(corpus, nsp=False), **make()}
        return tiny_trainer(chosen, tasks=unscored(tiny_tasks()[:2]), stages=stages, steps=FEW, observers=observers)

    whole = trainer()
    whole.train()
    stop = Stop(after)
    stop.trainer = trainer([stop])
    stop.trainer.train()
    begun = {"domain"} | ({"finetune"} if after > STEPS else set())
    acting = {name for name in make() if begun & set(stages.get(name, ["finetune"]))}
    assert stop.training["plugins"].keys() == acting - {"smart"}  # which has no state
    second = trainer()
    second.model.load_state_dict(stop.model)
    second.state.load(stop.training)
    second.train()
    same_weights(second, whole)


class Stop(Snapshot):
    """A snapshot after so many updates of all stages together."""

    def __init__(self, after: int) -> None:
        super().__init__(after)
        self.done = 0

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        super().after_step(self.done)
        self.done += 1
