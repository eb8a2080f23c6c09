"""The effect meter: it changes nothing, and what it reports is what an obvious computation gives."""

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from regkit_plugins.bregman import Bregman
from regkit_plugins.only import Only
from regkit_plugins.rdrop import RDrop
from regkit_plugins.sam import SAM
from regkit_plugins.smart import Smart
from torch import Tensor

from regkit.data.order import Feed
from regkit.hooks.spec import hookimpl
from regkit.hooks.stopwatch import CORE, Stopwatch
from regkit.model import MultitaskModel
from regkit.tasks.batch import Batch
from regkit.testing import measured, tiny_tasks, tiny_trainer
from regkit.training.effects import summary, warnings
from regkit.training.stages import prepare
from tests.helpers import regkit, stages_of, write_encoder, write_tasks


def test_the_shares_of_the_gradient_are_those_of_each_terms_own_gradient() -> None:
    _, _, records = measured({"smart": Smart(weight=3.0), "rdrop": RDrop()})
    trainer = tiny_trainer({"smart": Smart(weight=3.0), "rdrop": RDrop()})
    ((stage, tasks),) = stages_of(trainer)
    prepare(trainer.hook, trainer.model, stage, tasks)
    trainer.model.train()
    (first,) = trainer.hook.choose_tasks(tasks=tasks, step=0, total_steps=6)
    (batch,) = Feed(first, 0, stage.name).micro_batches(0, 10_000)
    with trainer.streams.at(stage.name, 0), trainer.streams.within(first.name, 0):
        terms = trainer.passes.losses(first, batch)
    for name, term in terms.items():
        trainer.model.zero_grad()
        term.backward(retain_graph=True)
        found = [parameter.grad.flatten() for parameter in trainer.model.parameters() if parameter.grad is not None]
        assert records[0]["terms"][first.name][name]["size"] == pytest.approx(float(term.detach()), rel=1e-5)
        assert records[0]["terms"][first.name][name]["gradient"] == pytest.approx(
            float(torch.cat(found).norm()), rel=1e-4
        )


def test_passes_are_counted_for_who_asks_for_them() -> None:
    _, _, records = measured({"smart": Smart(steps=2), "bregman": Bregman(), "rdrop": RDrop()})
    for record in records:
        assert record["passes"] == {CORE: 1, "smart": 3, "bregman": 1, "rdrop": 1}


def test_sam_pays_for_the_clean_pass_it_asks_for_and_the_others_for_doing_theirs_twice() -> None:
    _, _, records = measured({"sam": SAM(), "smart": Smart()})
    assert records[-1]["passes"] == {CORE: 1, "smart": 4, "sam": 1}


def test_only_one_in_so_many_batches_of_each_task_is_measured() -> None:
    _, _, records = measured({"smart": Smart()}, every=32)
    assert [list(record["terms"]) for record in records] == [["classes"]]  # six steps: one task comes a second time


def test_tasks_take_turns_so_that_a_short_run_does_not_measure_each_of_them() -> None:
    one, other = tiny_tasks()[:2]
    for every, found in ((2, [one.name, other.name]), (4, [one.name])):  # each of them gives three batches
        _, _, records = measured({"smart": Smart()}, tasks=[one, other], every=every)
        assert [name for record in records for name in record["terms"]] == found


def test_a_task_that_alone_is_trained_is_measured_first() -> None:
    one, other = tiny_tasks()[:2]
    _, _, records = measured({"only": Only(other.name), "smart": Smart()}, tasks=[one, other])
    _, _, few = measured({"only": Only(other.name), "smart": Smart()}, tasks=[one, other], every=100)
    assert [name for record in few for name in record["terms"]] == [other.name]
    assert len(records) > len(few)


@pytest.mark.slow
def test_a_short_run_says_which_tasks_were_not_measured(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    write_tasks(tmp_path / "data")
    given = [
        "--encoder",
        "encoder",
        "--data",
        "data",
        "--batch-size",
        "8",
        "--steps",
        "8",
        "-p",
        "rrobin",
        "-p",
        "smart",
    ]
    few = regkit("train", *given, "--tasks", "mood,same", cwd=tmp_path)
    assert "nothing of this was measured on same; a lower --measure-every does that" in few.out
    assert json.loads((tmp_path / "runs/latest/effects.json").read_text())["unmeasured"] == ["same"]
    for every in ("2", "0"):  # nobody misses what was turned off
        ran = regkit("train", *given, "--tasks", "mood,same", "--measure-every", every, cwd=tmp_path)
        assert (ran.status, "nothing of this" in ran.out) == (0, False)


def test_tasks_whose_gradients_were_compared_are_measured(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    write_tasks(tmp_path / "data")
    where = ("--encoder", "encoder", "--data", "data", "--tasks", "mood,same", "--steps", "2")
    ran = regkit("train", *where, "-p", "pcgrad", "-p", "rrobin:per_step=2", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert "mood and same: cosine of the gradients" in ran.out
    assert "nothing of this was measured" not in ran.out
    assert "before training: a sample of dev" in ran.out
    assert not re.search(r"mood, \d of 20: accuracy", ran.out), "of a few examples, only the loss is said"


def test_with_0_nothing_is_measured() -> None:
    assert measured({"smart": Smart()}, every=0)[2] == []


def test_without_extra_terms_no_gradient_is_taken() -> None:
    _, _, records = measured({"sam": SAM()})
    assert all(
        set(term) == {"size"} for record in records for terms in record["terms"].values() for term in terms.values()
    )
    assert summary(records)["terms"]["task"]["share of the gradient"] == 1.0


def test_smart_reports_its_floor_its_ratio_and_its_edge() -> None:
    found = summary(measured({"smart": Smart()})[2])["measures"]["smart"]
    assert found["floor"] == 0
    assert found["over random"] > 1
    assert 0 < found["at the edge"] <= 1


def test_shares_of_the_time_add_up_to_less_than_all_of_it() -> None:
    found = summary(measured({"smart": Smart(), "sam": SAM(), "bregman": Bregman()})[2])["plugins"]
    assert set(found) == {"smart", "sam", "bregman"}
    assert all(values["share of the time"] > 0 for values in found.values())
    assert sum(values["share of the time"] for values in found.values()) < 1


def test_a_term_that_does_nothing_or_dominates_the_gradient_earns_a_warning_with_its_options() -> None:
    _, composition, records = measured({"smart": Smart(epsilon=1e-6, sigma=1e-6, eta=1e-4)})
    (sentence,) = warnings(summary(records), composition)
    assert sentence.startswith("'smart' gives ")
    assert "does next to nothing; raise weight (now 1) or epsilon (now 1e-06) of 'smart'." in sentence
    _, composition, records = measured({"smart": Smart(weight=1e9)})
    (sentence,) = warnings(summary(records), composition)
    assert "dominates the gradient; lower weight (now 1e+09) or epsilon (now 0.01) of 'smart', unless" in sentence


def test_a_term_of_good_size_earns_none() -> None:
    _, composition, records = measured({"smart": Smart(weight=10.0)})
    assert warnings(summary(records), composition) == []


def test_the_stopwatch_gives_each_owner_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, clock = Stopwatch(), iter(range(100))
    monkeypatch.setattr(watch, "now", lambda: float(next(clock)))
    watch.start()
    with watch.on("outer"), watch.on("inner"):
        pass
    with watch.paused():
        pass
    watch.stop()
    assert watch.seconds == {CORE: 1 + 1 + 1, "outer": 2, "inner": 1}


def test_a_run_logs_its_effects_and_ends_with_their_table(tmp_path: Path) -> None:
    encoder, data = write_encoder(tmp_path / "encoder"), write_tasks(tmp_path / "data")
    (tmp_path / "c.toml").write_text(
        "measure_every = 2\n[plugins.smart]\n[plugins.rrobin]\n[plugins.bregman]\nweight = 1e-9\n"
    )
    ran = regkit(
        "train",
        "c.toml",
        "--data",
        data,
        "--encoder",
        encoder,
        "--batch-size",
        8,
        "--epochs",
        2,
        "--output",
        "run",
        cwd=tmp_path,
    )
    assert ran.status == 0, ran.err
    (line,) = [line for line in ran.out.splitlines() if line.startswith("effect of smart: ")]
    for words in (
        "size",
        "% of the gradient",
        "floor",
        "over random",
        "at the edge",
        "% of the time",
        "extra passes 2",
    ):
        assert words in line
    assert "warning: 'bregman' gives " in ran.out
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any("effects" in record for record in log)
    effects = json.loads((tmp_path / "run" / "effects.json").read_text())
    assert set(effects) == {"terms", "measures", "plugins", "cosines", "unmeasured", "warnings"}
    assert set(effects["plugins"]) == {"smart", "rrobin", "bregman"}


def test_passes_that_go_past_predict_are_counted_as_the_plugins() -> None:
    class Past:
        """Runs the encoder by itself, a copy of it, and one of its two layers."""

        @hookimpl
        def prepare(self, model: MultitaskModel) -> None:
            self.teacher = copy.deepcopy(model).requires_grad_(False)

        @hookimpl
        def extra_losses(self, model: MultitaskModel, batch: Batch, embeddings: Tensor) -> Mapping[str, Tensor]:
            hidden = model.encoder.encode(embeddings, batch) + self.teacher.encoder.encode(embeddings, batch)
            return {"past": 1e-3 * model.encoder.layers[0](hidden, batch).mean()}

    _, _, records = measured({"past": Past(), "smart": Smart()})
    assert all(record["passes"] == {CORE: 1, "past": 2.5, "smart": 2} for record in records)


def test_a_term_without_any_gradient_is_not_told_to_be_raised() -> None:
    class Nothing:
        weight = 1.0

        @hookimpl
        def extra_losses(self, output: Tensor) -> Mapping[str, Tensor]:
            return {"nothing": self.weight * (output - output).mean()}

    _, composition, records = measured({"nothing": Nothing()})
    assert warnings(summary(records), composition) == [
        "'nothing' gives no gradient at all: it does nothing, whatever the options of 'nothing'."
    ]
