"""Cells: one run of a study, wherever it was broken off, comes to what it would have come to."""

import json
import signal
import weakref
from dataclasses import dataclass
from math import isnan
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

from regkit import hookimpl
from regkit.base.errors import RunError, StoppedError
from regkit.experiments.statistics.scorers import CALIBRATION
from regkit.experiments.study.cell import Runner
from regkit.experiments.study.cost import Clock, begin_peak, peak
from regkit.experiments.study.outcome import drop
from regkit.runs import evidence, robust
from regkit.runs.experiment import Experiment
from regkit.runs.interrupts import Interrupts
from regkit.runs.settings import Settings
from regkit.tasks.batch import Batch
from regkit.training.attack import Attack
from regkit.training.evaluation import Evaluator, Scores


@pytest.fixture
def settings(place: Path) -> Settings:
    chosen = {"tasks": ["mood"], "steps": 4, "batch_size": 8, "learning_rate": 0.01, "plugins": {"ema": {}}}
    return Settings(data=place / "data", encoder=str(place / "encoder"), **chosen)  # type: ignore[arg-type]


@dataclass
class Stop:
    """Asks a run to stop after its second step."""

    interrupts: Interrupts

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, *exception: object) -> None:
        return

    @hookimpl
    def after_step(self, step: int) -> None:
        if step == 1:
            self.interrupts.asked = signal.SIGTERM


def silent(line: str) -> None:
    return


@pytest.mark.slow
def test_a_run_that_was_stopped_or_not_scored_comes_to_the_same(settings: Settings, tmp_path: Path) -> None:
    whole = Runner(keep_weights=True).run(settings, tmp_path / "whole", silent)
    stopped = Runner()
    stopped.observers = lambda: [Stop(stopped.interrupts)]
    with pytest.raises(StoppedError):
        stopped.run(settings, tmp_path / "run", silent)
    gone_on = Runner().run(settings, tmp_path / "run", silent)
    assert (gone_on.scores, gone_on.mains, gone_on.operations) == (whole.scores, whole.mains, whole.operations)
    assert gone_on.seconds > 0
    log = (tmp_path / "whole" / "log.jsonl").read_bytes()
    for name in ("evidence.json", "evidence.safetensors"):
        (tmp_path / "whole" / name).unlink()  # killed at the end of training
    assert Runner().run(settings, tmp_path / "whole", silent).scores == whole.scores
    assert (tmp_path / "whole" / "log.jsonl").read_bytes() == log  # nothing was trained again


@pytest.mark.slow
def test_a_run_is_scored_on_changed_examples_which_are_the_same_for_every_row_and_seed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robust, "ATTACKED", 7)
    settings = settings.model_copy(update={"steps": 1})
    seen: list[tuple[str, bytes]] = []
    read, attack = robust.tokenized, Attack.outputs

    def tokenized(texts: Any, *given: Any, **more: Any) -> Any:
        seen.append(("texts", repr(texts).encode()))
        return read(texts, *given, **more)

    def outputs(self: Attack, model: Any, task: Any, batch: Batch) -> torch.Tensor:
        noise = batch.noise(model.embed(batch), "attack 0", "uniform")
        seen.append(("attack", noise.numpy().tobytes()))
        return attack(self, model, task, batch)

    monkeypatch.setattr(robust, "tokenized", tokenized)
    monkeypatch.setattr(Attack, "outputs", outputs)
    one = Runner(radii=(0.1,)).run(settings, tmp_path / "one", silent)
    first, seen[:] = list(seen), []
    other = settings.model_copy(update={"seed": 3, "plugins": {}, "label_noise": {"mood": 0.5}})
    two = Runner(radii=(0.1,)).run(other, tmp_path / "two", silent)
    assert [name for name, _ in first] == ["texts", "texts", "attack"]
    assert seen == first
    assert (
        list(one.scores) == ["dev", "dev under typos", "dev under synonyms", "dev under attack 0.1"] == list(two.scores)
    )
    assert set(one.scores["dev"]["mood"]) - set(one.scores["dev under attack 0.1"]["mood"]) == set(CALIBRATION)
    kept = [evidence.load(tmp_path / name)["dev under attack 0.1"]["mood"] for name in ("one", "two")]
    assert len(kept[0].ids) == 7
    assert kept[0].ids == kept[1].ids
    assert (one.mains, one.value) == ({"mood": ("accuracy", False)}, one.scores["dev"]["mood"]["accuracy"])


@pytest.mark.slow
def test_a_run_that_was_killed_before_it_was_scored_on_changed_examples_ends_the_same(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Runner(radii=(0.1,)).run(settings, tmp_path / "whole", silent)
    for place in ("regkit.runs.robust.attacked", "regkit.experiments.study.cell.evidence.save"):
        folder = tmp_path / place
        with monkeypatch.context() as broken:
            broken.setattr(place, lambda *given: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises((OSError, RunError)):
                Runner(radii=(0.1,)).run(settings, folder, silent)
        assert (folder / "finished.json").is_file()
        log = (folder / "log.jsonl").read_bytes()
        again = Runner(radii=(0.1,)).run(settings, folder, silent)
        assert (again.scores, again.drop) == (whole.scores, whole.drop)
        assert (folder / "log.jsonl").read_bytes() == log  # nothing was trained again
        for name in ("evidence.json", "evidence.safetensors"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_run_that_was_scored_as_it_is_alone_is_scored_on_changed_examples_while_it_has_weights(
    settings: Settings, tmp_path: Path
) -> None:
    plain, robust = Runner(), Runner(radii=(0.1,))
    assert list(plain.run(settings, tmp_path / "run", silent).scores) == ["dev"]
    assert len(robust.run(settings, tmp_path / "run", silent).scores) == 4
    plain.run(settings, tmp_path / "freed", silent)
    plain.free(tmp_path / "freed")
    with pytest.raises(RunError, match="freed has no"):
        robust.run(settings, tmp_path / "freed", silent)
    assert list(plain.run(settings, tmp_path / "freed", silent).scores) == ["dev"]


def test_the_drop_is_from_the_best_evaluation_to_the_last_by_the_log(tmp_path: Path) -> None:
    evaluations: list[dict[str, Any]] = [{"scores": {"dev": {"a": {"accuracy": score}}}} for score in (0.5, 0.8, 0.7)]
    lines = [{"losses": {}}, *evaluations, {"skipped": []}]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf8")
    assert isnan(drop(tmp_path, {"a": ("accuracy", False)}))
    (tmp_path / "scores.json").write_text(json.dumps(evaluations[1]["scores"]), encoding="utf8")
    assert drop(tmp_path, {"a": ("accuracy", False)}) == pytest.approx(0.1)
    assert drop(tmp_path, {"a": ("accuracy", True)}) == pytest.approx(-0.1)
    assert isnan(drop(tmp_path, {"b": ("accuracy", False)}))
    for broken in ("", "{", "[1]\n", '{"scores": 3}\n', '{"scores": {"dev": {"a": {"accuracy": null}}}}\n'):
        (tmp_path / "log.jsonl").write_text(broken, encoding="utf8")
        assert isnan(drop(tmp_path, {"a": ("accuracy", False)}))


def test_a_run_of_other_settings_in_the_same_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    Runner().run(settings, tmp_path / "run", silent)
    other = settings.model_copy(update={"clip": 3.0})
    with pytest.raises(Exception, match=r"run has clip = 1\.0, not 3\.0"):
        Runner().run(other, tmp_path / "run", silent)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    with pytest.raises(RunError, match="exists already"):
        Runner().run(settings, tmp_path / "other", silent)


@pytest.mark.slow
def test_a_run_begins_without_the_model_of_the_run_before(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, two of them may not fit."""
    models: list[weakref.ref[torch.nn.Module]] = []
    build = Experiment.build

    def noted(*given: Any, **more: Any) -> Experiment:
        assert [model() for model in models] == [None] * len(models)
        experiment = build(*given, **more)
        models.append(weakref.ref(experiment.model))
        return experiment

    monkeypatch.setattr(Experiment, "build", noted)
    runner = Runner()
    for seed in (0, 1):
        runner.run(settings.model_copy(update={"seed": seed}), tmp_path / str(seed), silent)
    assert len(models) == 3  # two runs, and the operations of a step


def test_seconds_are_those_of_all_updates_also_of_those_that_another_process_made() -> None:
    clock = Clock(Evaluator(), seconds=3.0, updates=6)
    assert clock.of(10) == 5.0
    assert Clock(Evaluator()).of(10) != Clock(Evaluator()).of(10)  # NaN: nothing was seen of it


@pytest.mark.slow
def test_scoring_is_no_part_of_the_seconds_of_training(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is scored more often, as one that stops early is, would seem to cost more."""
    scores = Evaluator.scores

    def slow(self: Evaluator, *given: Any) -> Scores:
        self.seconds += 1000.0
        return scores(self, *given)

    monkeypatch.setattr(Evaluator, "scores", slow)
    outcome = Runner().run(settings, tmp_path / "run", silent)
    assert outcome.seconds < 0.0  # more was scored, as it says, than time has passed


def test_the_peak_of_the_memory_is_that_since_it_was_begun() -> None:
    cpu = torch.device("cpu")
    grown = []
    for _ in range(5):  # meanwhile the system may take other pages of this process away
        begin_peak(cpu)
        before = peak(cpu)
        with mmap(-1, 2**26) as fresh:  # 64 MiB that no earlier test has left in the heap
            fresh.write(b"1" * 2**26)
        grown.append(peak(cpu) - before)
    assert max(grown) >= 0.8 * 2**26
    begin_peak(cpu)
    assert peak(cpu) - before < 2**25
