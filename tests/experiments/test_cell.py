"""Cells: one run of a study, wherever it was broken off, comes to what it would have come to."""

import signal
import weakref
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

from regkit import hookimpl
from regkit.base.errors import RunError, StoppedError
from regkit.experiments.study.cell import Runner
from regkit.experiments.study.cost import Clock, begin_peak, peak
from regkit.runs.experiment import Experiment
from regkit.runs.interrupts import Interrupts
from regkit.runs.settings import Settings


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


def test_a_run_of_other_settings_in_the_same_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    Runner().run(settings, tmp_path / "run", silent)
    other = settings.model_copy(update={"clip": 3.0})
    with pytest.raises(Exception, match=r"run has clip = 1\.0, not 3\.0"):
        Runner().run(other, tmp_path / "run", silent)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    with pytest.raises(RunError, match="exists already"):
        Runner().run(settings, tmp_path / "other", silent)


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
    clock = Clock(seconds=3.0, updates=6)
    assert clock.of(10) == 5.0
    assert Clock().of(10) != Clock().of(10)  # NaN: nothing was seen of it


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
