"""Cell: train one run of a study, or go on with it, and score it.

What a table needs of its best checkpoint is kept.
"""

import gc
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import torch

from regkit.base.errors import RegkitError
from regkit.base.files import write
from regkit.experiments.study.cost import Clock, begin_peak, peak
from regkit.experiments.study.given import given
from regkit.experiments.study.outcome import COST, Outcome, read_outcome
from regkit.runs import disk, evidence, resume, trial
from regkit.runs.evidence import NAMES, Answers, Evidence
from regkit.runs.execute import executed
from regkit.runs.experiment import Experiment
from regkit.runs.finished import labelled, load_model, load_run
from regkit.runs.folders import FINISHED, is_run
from regkit.runs.interrupts import Interrupts
from regkit.runs.lock import Say, claim
from regkit.runs.recorder import Recorder
from regkit.runs.resumable import Resumable, newest
from regkit.runs.robust import Probe
from regkit.runs.settings import Settings
from regkit.runs.shared import Shared
from regkit.runs.trackers import leave_out_missing
from regkit.tasks.names import UNDER
from regkit.tasks.task import Split, Task
from regkit.training.evaluation import Evaluator
from regkit.training.fit import Fit
from regkit.training.precision import as_trained

SCORED: tuple[Split, ...] = ("dev", "test")
CHANGED: Split = "dev"  # whose examples are changed


@dataclass
class Runner:
    """Runs the cells of a study in this process, which load once what they share."""

    interrupts: Interrupts = field(default_factory=Interrupts)
    shared: Shared = field(default_factory=Shared)
    keep_weights: bool = False
    radii: Sequence[float] = ()  # of the attacks, where each run is scored on changed examples, too
    observers: Callable[[], Sequence[Any]] = list  # further observers of a run: context managers
    check: Callable[[dict[str, str]], None] = lambda found: None  # of what a run is given, before it begins
    counted: dict[str, float] = field(default_factory=dict)  # operations of a step, by settings other than the seed

    def run(self, settings: Settings, folder: Path, say: Say) -> Outcome:
        """Train a run in this folder, or go on with it as far as it is there, and score it.

        Raises RegkitError, and StoppedError where a signal came: the same call goes on with it.
        """
        if not is_run(folder):
            self._begin(settings, folder, say)
        else:
            with claim(folder, say):
                settings, said = leave_out_missing(folder, settings)
                for line in said:
                    say(line)
                settings = resume.same(folder, resume.settings_of(folder), settings)
                if not (folder / FINISHED).is_file():
                    self._go_on(newest(folder, say), settings, say)
                elif not self._is_scored(folder):
                    self._score(folder, self._build(settings))
        return replace(read_outcome(folder), operations=self.operations(settings))

    def free(self, folder: Path) -> None:
        """Free what a finished run holds: the weights too, unless they are to be kept."""
        with suppress(OSError, RegkitError):  # the run is finished all the same
            (disk.superfluous(folder) if self.keep_weights else disk.weights(folder)).free()

    def _is_scored(self, folder: Path) -> bool:
        """Whether a finished run has all of its answers."""
        if not (folder / NAMES).is_file():
            return False
        return not self.radii or any(UNDER in split for split in evidence.load(folder))

    def _build(self, settings: Settings) -> Experiment:
        gc.collect()  # hooks and model hold each other: without this, the run before keeps its memory, on a GPU too
        return Experiment.build(settings, shared=self.shared)

    def _begin(self, settings: Settings, folder: Path, say: Say) -> None:
        experiment = self._build(settings)
        self.check(given(experiment))
        self._train(experiment, folder, None, say)

    def _go_on(self, resumable: Resumable, settings: Settings, say: Say) -> None:
        gc.collect()
        self._train(resume.build(resumable, settings, shared=self.shared), resumable.folder, resumable, say)

    def _train(self, experiment: Experiment, folder: Path, resumable: Resumable | None, say: Say) -> None:
        trainer = experiment.trainer
        device, clock = trainer.streams.device, Clock(trainer.evaluator)
        begin_peak(device)
        observers = [clock, *self.observers()]
        with executed(
            experiment, folder, resumable, interrupts=self.interrupts, observers=observers, latest=False, say=say
        ) as recorder:
            cost = {"seconds": clock.of(_updates(recorder)), "memory": peak(device)}
            write(folder / COST, json.dumps({name: value for name, value in cost.items() if value == value}))
            self._score(folder, experiment)

    def _score(self, folder: Path, experiment: Experiment) -> None:
        """Save what the run's best checkpoint answers on dev and on test.

        Test is left out where it has no labels. With radii, it answers changed examples of dev, too.
        """
        settings = experiment.settings
        tasks = [task for task in experiment.tasks if task.name in (settings.tasks or ())]
        found = answers(folder, tasks, settings)
        evidence.save(folder, {**found, **changed_answers(folder, settings, self.radii)} if self.radii else found)

    def operations(self, settings: Settings) -> float:
        """Count the operations of a step, once for all seeds of a row; NaN where a step cannot be tried."""
        key = settings.model_copy(update={"seed": 0}).model_dump_json()
        if key not in self.counted:
            try:
                self.counted[key] = trial.operations(self._build(settings))
            except Exception:  # out of memory, or a plugin that fails on few examples: the run is finished all the same
                self.counted[key] = nan
        return self.counted[key]


def _updates(recorder: Recorder) -> int:
    """Count the updates of the whole run, by its log."""
    return sum("losses" in record or "skipped" in record for record in recorder.sink.lines())


def answers(folder: Path, tasks: Sequence[Task], settings: Settings) -> Answers:
    """Ask the run's best checkpoint for the labelled examples of dev and test."""
    model = load_model(folder, tasks, settings)
    evaluator = Evaluator(Fit.on(model), as_trained("auto", settings.precision).type)
    found: dict[str, dict[str, Evidence]] = {}
    for split in SCORED:
        for task in tasks:
            if split in task.splits and task.splits[split].labels is not None:
                work = partial(evaluator.outputs, model, task, split)
                output = evaluator.fit.until_it_fits(work, f"on task '{task.name}'")
                found.setdefault(split, {})[task.name] = _evidence(task, split, output)
    return found


def changed_answers(folder: Path, settings: Settings, radii: Sequence[float]) -> Answers:
    """Ask the run's best checkpoint about examples of dev with changed texts, and under attack."""
    finished = load_run(folder, CHANGED, device=settings.device, factory=settings.encoder_factory, keep_texts=True)
    return {f"{CHANGED}{UNDER}{name}": found for name, found in Probe(finished, CHANGED, radii).under_all().items()}


def _evidence(task: Task, split: Split, output: torch.Tensor) -> Evidence:
    scored, output = labelled(task, split, output)
    examples = scored.splits[split]
    assert examples.labels is not None  # it was asked for
    return Evidence(task.objective, output, examples.labels, list(examples.ids))
