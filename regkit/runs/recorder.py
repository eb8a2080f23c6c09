"""Recorder: writes a run's folder as training goes - config, environment, log, checkpoints, scores."""

import json
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import torch

from regkit.base.errors import RegkitError, RunError, StoppedError
from regkit.base.files import point, write
from regkit.hooks.spec import hookimpl
from regkit.model import MultitaskModel
from regkit.runs import checkpoint, environment
from regkit.runs.experiment import Experiment
from regkit.runs.finished import declared
from regkit.runs.folders import CONFIG, new_folder, note_latest
from regkit.runs.interrupts import Interrupts
from regkit.runs.keeping import Keeping, monitored
from regkit.runs.log import LOG, Log
from regkit.runs.resume import Begun, Records, fingerprints, leftovers
from regkit.tasks.task import Stage, Task
from regkit.training import suspects
from regkit.training.effects import Meter, summary, warnings
from regkit.training.evaluation import Scores
from regkit.training.update import Losses

FINISHED = "finished.json"
ENVIRONMENT = "environment.json"


@dataclass
class Recorder:
    """An observer that writes the run's folder. It makes it when training begins, so what is refused leaves none.

    A run that was begun is gone on with in its own folder, which is brought back to the moment of its checkpoint.
    """

    experiment: Experiment
    meter: Meter
    output: Path | None = None
    begun: Begun | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)
    say: Callable[[str], None] = lambda line: None  # of what the user must know
    keeping: Keeping = field(default_factory=Keeping)
    rate: float = 0.0
    stage: str = ""
    budget: int | None = None  # most tokens in a micro-batch, as it was last said
    saved: tuple[str, int] = ("", 0)  # stage and step of the newest checkpoint
    saved_at: float = field(default_factory=time.monotonic)
    lock: IO[str] | None = None

    def __post_init__(self) -> None:
        self.experiment.trainer.between = self._stop_if_asked

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.lock:
            self.lock.close()

    @cached_property
    def folder(self) -> Path:
        experiment = self.experiment
        if self.begun:
            return self._go_on(self.begun)
        folder, self.lock = new_folder(experiment.settings, self.output)
        write(folder / ENVIRONMENT, json.dumps(self._environment(), indent=2))
        write(folder / "tasks.json", json.dumps(declared(experiment.tasks), indent=2))
        write(folder / CONFIG, experiment.settings.toml())  # the last: with it, the run has begun
        return folder

    def _environment(self) -> dict[str, Any]:
        return environment.present(self.experiment.trainer.streams.device, self.experiment.composition.plugins)

    def _go_on(self, begun: Begun) -> Path:
        """Bring the folder back to the moment of the checkpoint."""
        folder, records = begun.folder, begun.records
        for path in leftovers(folder):
            if path != begun.checkpoint:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if begun.checkpoint:
            self.keeping, self.stage = records.keeping, records.stage
            self.saved = (self.stage, self.experiment.trainer.position.step)
            self.budget = begun.training["position"].get("budget")
            self.experiment.composition.owners.update(records.owners)
            if different := environment.changed(folder / ENVIRONMENT, self._environment()):
                names = ", ".join(different)
                self.say(f"no longer as when the run began: {names}; the last digits of its numbers may differ")
            point(folder / "last", begun.checkpoint)
            if self.keeping.best:
                point(folder / "best", folder / "checkpoints" / Path(self.keeping.best).name)
            write(folder / "scores.json", json.dumps({"dev": self.keeping.scores}, indent=2))
        Log(folder / LOG).cut(records.log)
        note_latest(folder)
        return folder

    @hookimpl(wrapper=True)
    def choose_tasks(self, step: int) -> Generator[None, Sequence[Task], Sequence[Task]]:
        """A step begins and nothing of it is done: a moment to save."""
        settings, self.stage = self.experiment.settings, str(self.experiment.trainer.streams.place[0])
        by_steps = settings.save_steps and step % settings.save_steps == 0
        by_clock = settings.save_minutes and time.monotonic() - self.saved_at >= 60 * settings.save_minutes
        self._tell_budget()
        due = step and (by_steps or by_clock) and self.saved != (self.stage, step)
        if self.experiment.trainer.processes.joins(bool(due)):
            self.save()
        return (yield)

    @hookimpl(trylast=True)
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.rate = optimizer.param_groups[0]["lr"]

    @hookimpl(trylast=True)
    def after_step(self, step: int, losses: Losses) -> None:
        self.log.update(self.stage, step, self.rate, losses, self.meter.finish())
        self._stop_if_asked()

    @hookimpl(wrapper=True)
    def skipped(self, model: MultitaskModel, step: int, recompute: Callable[[], None]) -> Generator[None, None, None]:
        """Searched before the plugins are told, and saved after."""
        self.meter.finish()  # of numbers that are not finite
        found = suspects.find(self.experiment.composition, model, recompute, self.experiment.trainer.processes)
        self.log.write({"stage": self.stage, "step": step, "skipped": [asdict(suspect) for suspect in found]})
        self.say(f"step {step + 1} is skipped: {'; '.join(map(str, found))}")
        yield
        self._stop_if_asked()

    @hookimpl(trylast=True)
    def evaluated(self, stage: Stage, step: int, scores: Scores) -> None:
        settings, position = self.experiment.settings, self.experiment.trainer.position
        value = monitored(settings.monitor, stage, self.experiment.tasks, scores)
        self.stage = stage.name
        self._tell_budget()
        self.log.write({"stage": stage.name, "step": step, "scores": {"dev": scores}})
        if step:
            name = f"{stage.name}-{step}"
            better = self.keeping.judge(stage.name, name, value, scores)
            if settings.patience and self.keeping.since >= settings.patience:
                position.ended = True
                self.say(f"stage {stage.name} ends at step {step}: no better score in {settings.patience} evaluations")
            self.save()
            if better:
                point(self.folder / "best", self.folder / "checkpoints" / name)
                write(self.folder / "scores.json", json.dumps({"dev": scores}, indent=2))
            write(self.folder / "effects.json", json.dumps(self.effects(), indent=2))
        self._stop_if_asked()

    def save(self) -> None:
        """Write a checkpoint of this very moment, and let `last` point to it; RunError where a number in it is none."""
        experiment, trainer = self.experiment, self.experiment.trainer
        name = f"{self.stage}-{trainer.position.step}"
        self.keeping.note(name, experiment.settings.keep)
        weights, training = trainer.snapshot()
        owners, count = experiment.composition.owners, trainer.processes.count
        records = Records(self.stage, self.log.flushed(), self.keeping, owners, count, self.data)
        if trouble := checkpoint.not_finite(weights, training):
            raise RunError(
                f"{trouble} is no finite number at step {trainer.position.step}, so no checkpoint is written."
            )
        folder = self.folder / "checkpoints" / name
        training = {**training, "run": asdict(records)}
        checkpoint.save(folder, trainer.scored(), experiment.tokenizer, training, weights)
        self.saved, self.saved_at = (self.stage, trainer.position.step), time.monotonic()
        point(self.folder / "last", folder)
        self._prune()

    @cached_property
    def log(self) -> Log:
        return Log(self.folder / LOG)

    @cached_property
    def data(self) -> dict[str, str]:
        return fingerprints(self.experiment.tasks)

    def rescue(self) -> str:
        """Save what can be saved after an error, and say how to go on; nothing to say where training had not begun."""
        if "folder" not in self.__dict__ or not self.stage:
            return ""
        trainer = self.experiment.trainer
        alone = not trainer.processes.sharded  # or else it holds a part of the weights only
        if alone and trainer.at_rest() and self.saved != (self.stage, trainer.position.step) and trainer.position.step:
            with suppress(RegkitError, OSError):  # the first error is the one to tell
                self.save()
        if not (self.folder / "last").exists():
            return ""
        return f"What was done until step {self.saved[1]} is saved; {self.how_to_go_on()}"

    def how_to_go_on(self) -> str:
        return f"to go on: regkit train --resume {self.folder}"

    def finish(self) -> None:
        """Note that there is nothing left to do."""
        position = self.experiment.trainer.position
        write(self.folder / FINISHED, json.dumps({"stage": self.stage, "step": position.step}))

    def effects(self) -> dict[str, Any]:
        """What the plugins did and took, over the whole log, with warnings."""
        records = self.log.records()
        found = summary([record["effects"] for record in records if "effects" in record])
        said = warnings(found, self.experiment.composition)
        if skipped := sum("skipped" in record for record in records):
            said.append(
                f"{skipped} steps were skipped, for numbers that were not finite; log.jsonl names tasks and rows."
            )
        return {**found, "warnings": said}

    def _tell_budget(self) -> None:
        """Say and log what size of micro-batches was found to fit, once; a new stage begins with that of the settings."""
        _, position = self.folder, self.experiment.trainer.position  # a run that was begun: back at its checkpoint
        if position.budget and position.budget != self.budget:
            self.log.write({"stage": self.stage, "step": position.step, "micro_batch_tokens": position.budget})
            self.say(
                f"from step {position.step + 1} on, micro-batches have at most {position.budget} tokens, to fit in memory"
            )
        self.budget = position.budget

    def _stop_if_asked(self) -> None:
        """Save and stop, where a signal came."""
        trainer = self.experiment.trainer
        asked, position = self.interrupts.agreed(trainer.processes), trainer.position
        if asked:
            _, self.stage = self.folder, str(trainer.streams.place[0])  # a run that was begun: back at its checkpoint
            if trainer.processes.joins(bool(position.step) and self.saved != (self.stage, position.step)):
                self.save()
            raise StoppedError(f"stopped by {asked.name} after step {position.step}; {self.how_to_go_on()}", asked)

    def _prune(self) -> None:
        for folder in (self.folder / "checkpoints").iterdir():
            if folder.name not in self.keeping.kept():
                shutil.rmtree(folder)
