"""Auto weights: the share of the gradient is held, whatever the scale of a term, and runs resume exactly."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch
from regkit_plugins.l2sp import L2SP
from regkit_plugins.rdrop import RDrop
from regkit_plugins.smart import Smart
from torch import Tensor

from regkit.base.errors import PluginError
from regkit.hooks import catalog
from regkit.hooks.compose import Composition
from regkit.hooks.option_values import SHARE, share
from regkit.hooks.spec import hookimpl
from regkit.testing import tiny_tasks
from regkit.testing.tiny import MeterLog, tiny_run
from regkit.training.auto_weights import MOST, NAME, AutoWeights, is_measured
from regkit.training.effects import Meter, Record
from regkit.training.loop import Trainer
from tests.helpers import regkit, slow_but
from tests.runs.test_resume import exact


class Loud:
    """A term that is the task's own loss, ten thousand times as loud."""

    weight = 1.0

    @hookimpl
    def extra_losses(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"loud": 1e4 * loss}


class Nothing:
    """A term whose gradient is 0."""

    weight = 1.0

    @hookimpl
    def extra_losses(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"nothing": 0 * loss}


def run(
    plugins: Mapping[str, object], automatic: list[str], share: float = SHARE, **more: int
) -> tuple[Trainer, Composition, list[Record]]:
    """Train with these plugins, whose terms are weighed, and measure every batch."""
    auto = AutoWeights(dict.fromkeys(automatic, share))
    trainer, composition = tiny_run({NAME: auto, **plugins}, tiny_tasks()[:1], **more)
    auto.owners = composition.owners
    meter = Meter(trainer.state, composition, 1)
    log = MeterLog(meter)
    composition.observe(log)
    composition.observe(meter)
    trainer.train()
    return trainer, composition, log.records


def weights(trainer: Trainer) -> dict[str, float]:
    found: AutoWeights = trainer.state.plugins[NAME]
    return next(iter(found.weights.values()))


def test_every_doubling_of_the_batches_is_measured_and_then_one_in_a_hundred() -> None:
    assert [batch for batch in range(401) if is_measured(batch)] == [0, 1, 2, 4, 8, 16, 32, 64, 100, 200, 300, 400]


@pytest.mark.parametrize("share", [SHARE, 0.1])
def test_a_term_has_its_share_of_the_gradient_whatever_its_scale(share: float) -> None:
    trainer, _, records = run({"loud": Loud()}, ["loud"], share)
    assert weights(trainer) == pytest.approx({"loud": share / (1 - share) / 1e4})
    terms = [record["terms"]["classes"] for record in records]
    assert terms[0]["loud"]["size"] == 0  # nothing was known yet
    ratios = [each["loud"]["gradient"] / each["task"]["gradient"] for each in terms[1:]]
    assert ratios == pytest.approx([share / (1 - share)] * 5)


def test_the_share_is_held_while_both_gradients_change() -> None:
    _, _, records = run({"smart": Smart()}, ["smart"], steps=12)
    terms = [record["terms"]["classes"] for record in records[1:]]
    shares = [each["smart"]["gradient"] / (each["smart"]["gradient"] + each["task"]["gradient"]) for each in terms]
    assert median(shares) == pytest.approx(SHARE, rel=0.4)


def test_the_weight_goes_half_of_the_way_in_logarithms() -> None:
    auto = AutoWeights({"smart": 0.1}, weights={"sst": {"smart": 1.0}}, due={"sst"}, wanted={"sst": {"smart": 16.0}})
    auto.after_step({"sst": {}})
    assert auto.weights == {"sst": {"smart": pytest.approx(16.0)}}  # among the first batches, all of it
    auto.seen, auto.wanted = {"sst": 100}, {"sst": {"smart": 1.0}}
    auto.after_step({"sst": {}})
    assert auto.weights == {"sst": {"smart": pytest.approx(4.0)}}
    assert auto.seen == {"sst": 101}


def test_a_term_without_a_gradient_has_no_weight_and_none_gets_too_much() -> None:
    trainer, *_ = run({"nothing": Nothing()}, ["nothing"], steps=1)
    assert weights(trainer) == {}
    auto = AutoWeights({"faint": 0.1}, due={"sst"}, wanted={"sst": {"faint": 1e12}})
    auto.after_step({"sst": {}})
    assert auto.weights == {"sst": {"faint": MOST}}


def test_terms_that_the_weight_does_not_scale_are_left_alone() -> None:
    auto = AutoWeights({"rdrop": 0.5}, {"rdrop": RDrop()}, {"rdrop": "rdrop", "rdrop second": "rdrop"})
    auto.weights = {"sst": {"rdrop": 5.0}}
    task = replace(tiny_tasks()[0], name="sst")
    answers = auto.extra_losses(None, task, None)
    next(answers)
    with pytest.raises(StopIteration) as ended:
        answers.send([{"rdrop": torch.tensor(2.0), "rdrop second": torch.tensor(3.0)}, {"other": torch.tensor(4.0)}])
    assert [*ended.value.value] == [{"rdrop": 10.0, "rdrop second": 3.0}, {"other": 4.0}]


def test_all_terms_of_a_plugin_have_one_weight_by_their_sum() -> None:
    trainer, _, records = run({"l2sp": L2SP(weight=1.0, head=2.0)}, ["l2sp"], steps=2)
    assert weights(trainer).keys() == {"l2sp"}
    assert {"l2sp", "l2sp head"} <= records[1]["terms"]["classes"].keys()


def test_a_weight_with_an_upper_bound_is_refused() -> None:
    with pytest.raises(
        PluginError, match=r"'mixup' has a weight within bounds, so weight=5% is not for it; give a number\."
    ):
        catalog.make("mixup", {"weight": "5%"})


def test_a_plugin_whose_weight_is_a_number_keeps_it() -> None:
    _, _, records = run({"smart": Smart(weight=3.0), "loud": Loud()}, ["loud"], steps=2)
    assert records[0]["terms"]["classes"]["smart"]["size"] > 0 == records[0]["terms"]["classes"]["loud"]["size"]


def test_all_micro_batches_of_an_update_have_one_weight() -> None:
    whole, *_ = run({"smart": Smart()}, ["smart"], steps=2)
    parts, *_ = run({"smart": Smart()}, ["smart"], steps=2, micro_batch_tokens=24)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert one.shape == other.shape
    assert weights(parts)["smart"] > 0


@pytest.mark.parametrize("stop", slow_but([1, 5], [5]))
def test_a_run_resumes_exactly(stop: int, place: Path, tmp_path: Path) -> None:
    exact(place, tmp_path, {"smart": {"weight": "auto"}, "bregman": {"weight": "5%"}}, [stop])


@pytest.mark.parametrize("name", ["ema", "sam", "famo"])
def test_a_plugin_without_a_term_to_weigh_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match=f"'{name}' has no weight that scales a term|'{name}' has no option 'weight'"):
        catalog.make(name, {"weight": "auto"})


@pytest.mark.parametrize("text", ["0%", "100%", "-3%", "nan%", "%", "5 of%"])
def test_a_share_that_no_term_can_have_is_refused(text: str) -> None:
    with pytest.raises(
        PluginError, match=f"'smart': weight is '{text}'; a share of the gradient is between 0% and 100%"
    ):
        catalog.make("smart", {"weight": text})


def test_a_share_is_read_from_auto_and_from_percent() -> None:
    given: list[object] = ["auto", "AUTO", "5%", "2.5 %", 3.0, "3"]
    assert [share("smart", {"weight": each}) for each in given] == [SHARE, SHARE, 0.05, 0.025, None, None]
    assert share("smart", {}) is None


def test_the_run_says_that_it_weighs_the_term(place: Path) -> None:
    given = ["--encoder", "encoder", "--data", "data", "--batch-size", "8", "--steps", "4", "--output", "auto"]
    ran = regkit("train", *given, "-p", "smart:weight=auto", "--measure-every", "1", cwd=place)
    assert ran.status == 0, ran.err
    assert "plugin smart (weight=auto)" in ran.out
    assert "effect of weight=auto: weight of smart on " in ran.out
    assert 'weight = "auto"' in (place / "auto" / "config.toml").read_text()
    planned = regkit("train", *given[:-1], "new", "-p", "smart:weight=5%", "--dry-run", cwd=place)
    assert "loss = task + auto x smart" in planned.out
    assert "plugin smart (weight=5%)" in planned.out
