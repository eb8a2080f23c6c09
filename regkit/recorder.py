"""Recorder: writes a run's folder as training goes - config, environment, log, checkpoints, scores."""

import json
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from regkit import catalog, checkpoint
from regkit.effects import Meter, Record, summary, warnings
from regkit.errors import RunError
from regkit.evaluation import Scores, mean_score
from regkit.experiment import Experiment
from regkit.gradients import Losses
from regkit.hookspecs import hookimpl
from regkit.runs import declared, new_folder, point, write
from regkit.tasks import Stage


@dataclass
class Recorder:
    """An observer that writes the run's folder. It makes it when training begins, so what is refused leaves none."""

    experiment: Experiment
    meter: Meter
    output: Path | None = None
    best: float = -float("inf")
    scores: Scores = field(default_factory=dict)  # of the best checkpoint
    pending: list[tuple[int, float, Losses, Record]] = field(default_factory=list)
    rate: float = 0.0

    @cached_property
    def folder(self) -> Path:
        experiment = self.experiment
        folder = new_folder(experiment.settings, self.output)
        write(folder / "config.toml", experiment.settings.toml())
        found = environment(experiment.trainer.streams.device, experiment.composition.plugins)
        write(folder / "environment.json", json.dumps(found, indent=2))
        write(folder / "tasks.json", json.dumps(declared(experiment.tasks), indent=2))
        return folder

    @hookimpl(trylast=True)
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.rate = optimizer.param_groups[0]["lr"]

    @hookimpl(trylast=True)
    def after_step(self, step: int, losses: Losses) -> None:
        self.pending.append((step, self.rate, losses, self.meter.finish()))
        if len(self.pending) == 20:  # note: reading the numbers waits for the GPU
            self.flush()

    @hookimpl(trylast=True)
    def evaluated(self, stage: Stage, step: int, scores: Scores) -> None:
        self.flush()
        self._log({"stage": stage.name, "step": step, "scores": {"dev": scores}})
        if step == 0:
            return
        folder = self.folder / "checkpoints" / f"{stage.name}-{step}"
        mean = mean_score(scores, self.experiment.tasks)
        better = mean > self.best or not scores
        self.best = max(self.best, mean)
        state = self.experiment.trainer.state_dict() | {"best": self.best}
        checkpoint.save(folder, self.experiment.trainer.scored(), self.experiment.tokenizer, state)
        if better:
            self.scores = scores
            point(self.folder / "best", folder)
            write(self.folder / "scores.json", json.dumps({"dev": scores}, indent=2))
        point(self.folder / "last", folder)
        write(self.folder / "effects.json", json.dumps(self.effects(), indent=2))
        self._prune()

    def effects(self) -> dict[str, Any]:
        """What the plugins did and took, over the whole log, with warnings."""
        lines = (self.folder / "log.jsonl").read_text(encoding="utf8").splitlines()
        found = summary([record["effects"] for line in lines if "effects" in (record := json.loads(line))])
        return {**found, "warnings": warnings(found, self.experiment.composition)}

    def flush(self) -> None:
        """Write the losses of the steps since the last time; RunError where one is not finite."""
        stage = self.experiment.trainer.streams.place[0]
        for step, rate, losses, effects in self.pending:
            numbers = {task: {term: float(value) for term, value in terms.items()} for task, terms in losses.items()}
            record = {"stage": stage, "step": step, "learning_rate": rate, "losses": numbers}
            self._log(record | ({"effects": effects} if effects else {}))
            for task, terms in numbers.items():
                for term, value in terms.items():
                    if not abs(value) < float("inf"):
                        raise RunError(
                            f"the loss '{term}' of task '{task}' is {value} at step {step}; training stopped."
                        )
        self.pending.clear()

    def _log(self, record: Mapping[str, Any]) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **record}) + "\n")

    def _prune(self) -> None:
        kept = {(self.folder / name).resolve() for name in ("best", "last")}
        for folder in (self.folder / "checkpoints").iterdir():
            if folder.resolve() not in kept:
                shutil.rmtree(folder)


def environment(device: torch.device, plugins: Mapping[str, Any]) -> dict[str, Any]:
    """What else a run's numbers depend on."""
    points = catalog.installed()
    sources = {name: points[name].dist for name in plugins if name in points}
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "packages": {name: version(name) for name in ("regkit", "torch", "numpy", "tokenizers", "pluggy")},
        "plugins": {name: f"{dist.name} {dist.version}" for name, dist in sources.items() if dist},
    }
