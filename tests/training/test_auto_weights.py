"""Auto weights: the share of the gradient is held, whatever the scale of a term, and runs resume exactly."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from regkit_plugins.l2sp import L2SP
from regkit_plugins.rdrop import RDrop
from regkit_plugins.smart import Smart
from torch import Tensor

from regkit.base.errors import PluginError
from regkit.distributed.processes import Processes
from regkit.hooks import catalog
from regkit.hooks.compose import Composition
from regkit.hooks.option_values import SHARE, share
from regkit.hooks.spec import hookimpl
from regkit.testing import tiny_tasks
from regkit.testing.tiny import MeterLog, tiny_run
from regkit.training import auto_weights
from regkit.training.auto_weights import NAME, AutoWeights, holding, is_measured
from regkit.training.effects import Meter, Record, summary, warnings
from regkit.training.held_weight import MOST, Held, Measured
from regkit.training.loop import Trainer
from tests.helpers import regkit, slow_but
from tests.runs.test_resume import exact


class Loud:
    """A term that is the task's own loss, ten thousand times as loud."""

    weight = 1.0

    @hookimpl
    def extra_losses(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"loud": 1e4 * loss}


@dataclass
class Growing:
    """The task's own loss, larger by a factor with each update."""

    factor: float
    weight: float = 1.0
    updates: int = 0

    @hookimpl
    def extra_losses(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"growing": 1e-3 * self.factor**self.updates * loss}

    @hookimpl
    def after_step(self) -> None:
        self.updates += 1


class Valueless:
    """A term that is 0 and has a gradient all the same."""

    weight = 1.0

    @hookimpl
    def extra_losses(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"valueless": loss - loss.detach()}


@dataclass
class Rare:
    """A term of some updates alone."""

    updates: Sequence[int]
    weight: float = 1.0
    seen: int = 0

    @hookimpl
    def extra_losses(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"rare": 10 * loss} if self.seen in self.updates else {}

    @hookimpl
    def after_step(self) -> None:
        self.seen += 1


@dataclass
class Beyond:
    """A term that is too small or too large for float32, with a gradient as any other has it."""

    size: float
    weight: float = 1.0

    @hookimpl
    def extra_losses(self, loss: Tensor) -> Mapping[str, Tensor]:
        return {"beyond": loss.double() - loss.detach().double() + self.size}


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
    return {name: each.measured for name, each in next(iter(found.held.values())).items()}


def ratios(records: Sequence[Record], term: str) -> list[float]:
    """Compute a term's gradient over the task's, of each update but the first, in which nothing was known yet."""
    found = [record["terms"]["classes"] for record in records]
    assert found[0][term]["gradient"] == 0
    return [each[term]["gradient"] / each["task"]["gradient"] for each in found[1:]]


def follow(auto: AutoWeights, size: float, wanted: float | None = None, of: float = 1.0) -> float:
    """Make an update in which the term has a size, measured or not, and find the weight then."""
    found: dict[str, Measured | None] = {} if wanted is None else {"smart": Measured(wanted, of)}
    auto.due, auto.found = {"sst": {*found}}, {"sst": found}
    present = weight(auto)
    auto.after_step({"sst": {"task": torch.tensor(1.0), "smart": torch.tensor(present * size)}})
    return weight(auto)


def weight(auto: AutoWeights) -> float:
    held = auto.held.get("sst", {})
    return float(held["smart"].present) if held else 0.0


def new(share: float = 0.1, **more: Any) -> AutoWeights:
    return AutoWeights({"smart": share}, {"smart": Smart()}, {"smart": "smart"}, **more)


def test_every_doubling_of_the_batches_is_measured_and_then_one_in_a_hundred() -> None:
    assert [batch for batch in range(401) if is_measured(batch)] == [0, 1, 2, 4, 8, 16, 32, 64, 100, 200, 300, 400]


@pytest.mark.parametrize("share", [SHARE, 0.1])
def test_a_term_has_its_share_of_the_gradient_whatever_its_scale(share: float) -> None:
    trainer, _, records = run({"loud": Loud()}, ["loud"], share)
    wanted = share / (1 - share)
    assert weights(trainer)["loud"] == pytest.approx(wanted / 1e4, rel=0.2)
    assert ratios(records, "loud") == pytest.approx([wanted] * 5, rel=0.3)  # its size differs from batch to batch


def test_the_share_is_held_while_both_gradients_change() -> None:
    _, _, records = run({"smart": Smart()}, ["smart"], steps=12)
    found = [ratio / (1 + ratio) for ratio in ratios(records, "smart")]
    assert median(found) == pytest.approx(SHARE, rel=0.4)


def test_the_share_is_held_between_two_measurements_while_the_term_grows() -> None:
    _, _, records = run({"growing": Growing(1.2)}, ["growing"], steps=32)
    unmeasured = ratios(records, "growing")[17:]  # after batch 16, before batch 32; 1.2 ** 15 is 15
    assert all(0.5 < ratio * (1 - SHARE) / SHARE < 2 for ratio in unmeasured)


def test_a_term_of_no_size_is_weighed_by_its_gradient_alone() -> None:
    trainer, _, records = run({"valueless": Valueless()}, ["valueless"])
    assert weights(trainer) == pytest.approx({"valueless": SHARE / (1 - SHARE)})
    assert ratios(records, "valueless") == pytest.approx([SHARE / (1 - SHARE)] * 5)


def test_the_weight_goes_half_of_the_way_in_logarithms() -> None:
    auto = new()
    assert follow(auto, 1.0, wanted=16.0) == pytest.approx(16.0)  # among the first batches, all of it
    auto.seen = {"sst": 100}
    assert follow(auto, 1.0, wanted=1.0) == pytest.approx(4.0)
    assert auto.seen == {"sst": 101}


def test_the_weight_goes_against_the_size_half_of_the_way_in_each_update() -> None:
    auto = new()
    follow(auto, 1.0, wanted=16.0)
    assert [follow(auto, 16.0) for _ in range(3)] == pytest.approx([4.0, 2.0, 2**0.5])
    assert follow(auto, 16.0) > 1
    assert follow(auto, -16.0) > 1  # of a term that is negative, how far from 0 it is


def test_the_weight_of_a_term_that_shrinks_is_not_raised_until_it_is_measured() -> None:
    auto = new()
    follow(auto, 1.0, wanted=2.0)
    assert [follow(auto, size) for size in (16.0, 0.25, 0.25)] == pytest.approx([0.5, 2.0, 2.0])
    assert follow(auto, 0.25, wanted=8.0, of=0.25) > 2.0


def test_of_a_term_that_is_0_or_not_finite_nothing_is_learned() -> None:
    auto = new()
    follow(auto, 1.0, wanted=2.0)
    assert follow(auto, 4.0) == pytest.approx(1.0)
    assert follow(auto, 0.0) == follow(auto, float("nan")) == pytest.approx(1.0)


def test_a_measured_batch_of_an_unusual_size_is_taken_for_what_it_is() -> None:
    auto = new()
    follow(auto, 1.0, wanted=2.0)
    # The usual size by now is 2, that of the batch 4: at 2 the weight would have to be 6.
    assert follow(auto, 4.0, wanted=3.0, of=4.0) == pytest.approx(6.0)
    assert follow(auto, 2.0) == pytest.approx(6.0)


def test_processes_weigh_by_the_mean_of_what_they_found() -> None:
    """What comes from other processes has gone through JSON."""

    class Two(Processes):
        def gather(self, value: Any) -> list[Any]:
            return json.loads(json.dumps([value, {"smart": [8.0, 1.0]}, {"smart": None}, {}]))

    assert follow(new(processes=Two()), 1.0, wanted=2.0) == pytest.approx(4.0)


def test_a_term_without_a_gradient_has_no_weight_and_none_gets_too_much() -> None:
    trainer, *_ = run({"nothing": Nothing()}, ["nothing"], steps=1)
    assert weights(trainer) == {}
    assert follow(new(), 1.0, wanted=1e12) == MOST


def test_a_term_that_is_absent_when_it_should_be_measured_is_measured_when_it_comes() -> None:
    trainer, _, records = run({"rare": Rare([5, 6, 7]), "loud": Loud()}, ["rare", "loud"], steps=8)
    assert weights(trainer)["rare"] == pytest.approx(SHARE / (1 - SHARE) / 10)
    terms = [record["terms"]["classes"] for record in records]
    assert terms[5]["rare"]["gradient"] == 0
    for each in terms[6:]:
        assert each["rare"]["gradient"] / each["task"]["gradient"] == pytest.approx(SHARE / (1 - SHARE), rel=0.3)
    found: AutoWeights = trainer.state.plugins[NAME]
    assert found.state_dict()["owed"] == {"classes": []}


@pytest.mark.parametrize("size", [1e-50, 1e50])
def test_a_size_that_float32_does_not_hold_is_none(size: float) -> None:
    trainer, *_ = run({"beyond": Beyond(size)}, ["beyond"], steps=3)
    assert weights(trainer) == pytest.approx({"beyond": SHARE / (1 - SHARE)})


HELD = Held(2.0, torch.tensor(3.0), torch.tensor(6.0))


@pytest.mark.parametrize("held", [Held(2.0), HELD, HELD.resized(torch.tensor(10.1, dtype=torch.float64))])
def test_what_a_checkpoint_holds_is_the_same_weight(held: Held) -> None:
    auto, saved = new(), new(held={"sst": {"smart": held}}, seen={"sst": 3}, owed={"sst": ["smart"]}).state_dict()
    auto.load_state_dict(json.loads(json.dumps(saved)))
    assert auto.state_dict() == saved
    assert weight(auto) == float(held.present)


def test_a_share_that_is_not_held_is_told() -> None:
    _, composition, records = run({"nothing": Nothing()}, ["nothing"], steps=3)
    composition.automatic = {"nothing": SHARE}
    (said,) = warnings(summary(records), composition)
    assert said.startswith(
        "'nothing' gives nothing of the gradient where 3 % was asked for; give it a number as weight, "
    )
    _, composition, records = run({"smart": Smart()}, ["smart"], steps=3)
    composition.automatic = {"smart": SHARE}
    assert warnings(summary(records), composition) == []
    composition.automatic = {"smart": 0.999}
    found = summary(records)
    found["terms"]["smart"]["share of the gradient"] = 0.002
    (said,) = warnings(found, composition)
    assert said.startswith("'smart' gives 0.2 % of the gradient where 100 % was asked for; give it a number as weight")


def test_a_term_that_was_not_measured_in_a_measured_batch_keeps_following_its_size() -> None:
    auto = new()
    follow(auto, 1.0, wanted=16.0)
    auto.due, auto.found = {"sst": {"smart"}}, {"sst": {"smart": None}}
    auto.after_step({"sst": {"task": torch.tensor(1.0), "smart": torch.tensor(16.0 * 16)}})
    assert weight(auto) == pytest.approx(4.0)


def test_terms_that_the_weight_does_not_scale_are_left_alone() -> None:
    auto = AutoWeights({"rdrop": 0.5}, {"rdrop": RDrop()}, {"rdrop": "rdrop", "rdrop second": "rdrop"})
    auto.held = {"sst": {"rdrop": Held(5.0)}}
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


def test_one_micro_batch_of_a_batch_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[object] = []
    monkeypatch.setattr(auto_weights, "holding", lambda *given: found.append(given) or holding(*given))
    run({"loud": Loud()}, ["loud"], steps=3, micro_batch_tokens=24)
    assert len(found) == 3


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
