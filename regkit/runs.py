"""Runs: the folder that a run leaves behind - config, environment, log, checkpoints, scores - and reading it again."""

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regkit import catalog, checkpoint
from regkit.data.declare import choose, find_tasks
from regkit.data.load import load_task
from regkit.errors import ConfigError, RunError, nearest
from regkit.evaluation import Scores, mean_score
from regkit.experiment import Experiment, find_device
from regkit.hookspecs import hookimpl
from regkit.model import MultitaskModel, load_encoder
from regkit.randomness import Streams
from regkit.settings import Settings
from regkit.tasks import Split, Stage, Task
from regkit.tokenizer import Tokenizer

RUNS = Path("runs")
LATEST = "latest"


def check_free(folder: Path) -> None:
    """RunError where something is there already, or where no folder can be made."""
    for path in (folder, RUNS):
        above = next(each for each in [path.absolute(), *path.absolute().parents] if each.exists())
        if not above.is_dir() and above != folder.absolute():
            raise RunError(f"{above} is a file, so {path} cannot be made.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists already; name another --output, or remove it.")


def new_folder(settings: Settings, output: Path | None) -> Path:
    """Make the folder of a run, named by time and plugins where the user does not say, and point `runs/latest` to it."""
    name = "-".join([time.strftime("%Y%m%d-%H%M%S"), *settings.plugins])
    folder = output or next(
        path for n in range(1, 1000) if not (path := RUNS / (name if n == 1 else f"{name}-{n}")).exists()
    )
    check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    RUNS.mkdir(exist_ok=True)
    point(RUNS / LATEST, folder)
    return folder


def point(link: Path, folder: Path) -> None:
    """Let `link` point to `folder` from now on, at no time to nothing."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(folder, link.parent))
    fresh.replace(link)


def write(path: Path, text: str) -> None:
    """The whole file, or what was there before."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


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


def declared(tasks: Iterable[Task]) -> dict[str, list[str | None]]:
    """What a head's numbers mean: each task's objective and pair mode. Their shapes alone would not tell."""
    return {task.name: [repr(task.objective), task.pair_mode] for task in tasks}


@dataclass
class Recorder:
    """An observer that writes the run's folder. It makes it when training begins, so what is refused leaves none."""

    experiment: Experiment
    output: Path | None = None
    best: float = -float("inf")
    scores: Scores = field(default_factory=dict)  # of the best checkpoint
    pending: list[tuple[int, float, Mapping[str, Mapping[str, Tensor]]]] = field(default_factory=list)
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
    def after_step(self, step: int, losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.pending.append((step, self.rate, losses))
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
        checkpoint.save(folder, self.experiment.model, self.experiment.tokenizer, state)
        if better:
            self.scores = scores
            point(self.folder / "best", folder)
            write(self.folder / "scores.json", json.dumps({"dev": scores}, indent=2))
        point(self.folder / "last", folder)
        self._prune()

    def flush(self) -> None:
        """Write the losses of the steps since the last time; RunError where one is not finite."""
        stage = self.experiment.trainer.streams.place[0]
        for step, rate, losses in self.pending:
            numbers = {task: {term: float(value) for term, value in terms.items()} for task, terms in losses.items()}
            self._log({"stage": stage, "step": step, "learning_rate": rate, "losses": numbers})
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


def find_run(run: Path | None) -> Path:
    """The run's folder, or the latest one's for None; RunError where there is none, or nothing to evaluate in it."""
    folder = run or RUNS / LATEST
    if not folder.is_dir():
        if run is None:
            raise RunError("there is no run yet: `regkit train` makes one, and runs/latest points to it.")
        others = [path.name for path in run.parent.iterdir() if path.is_dir()] if run.parent.is_dir() else []
        raise RunError(f"there is no run {run}. {nearest(run.name, others)}")
    if not (folder / "config.toml").is_file():
        raise RunError(f"{folder} is not a run: it has no config.toml.")
    if not (folder / "best").is_dir():
        raise RunError(f"{folder} has no checkpoint yet: training has not reached the end of its first epoch.")
    return folder


@dataclass
class Finished:
    """A run read back for evaluation: its best checkpoint, and the tasks of one split."""

    model: MultitaskModel
    tasks: list[Task]
    columns: dict[str, tuple[str, str]]  # by task: what prediction files call the example and its label
    settings: Settings


def load_run(folder: Path, split: Split, *, data: Path | None = None, device: str = "auto") -> Finished:
    """The run's best model with a split of its own data, or of other data with the same tasks."""
    settings = Settings.read(folder / "config.toml")
    found = find_tasks(data or settings.data)
    trained = settings.tasks or list(choose(found, None))
    specs = {name: found[name] for name in trained if name in found}
    if not specs:
        raise ConfigError(f"{data or settings.data} has none of the run's tasks: {', '.join(trained)}.")
    best, where = folder / "best", find_device(device)
    tokenizer, encoder = Tokenizer.load(best), load_encoder(best)
    longest = min(settings.max_length or encoder.longest, encoder.longest)
    loaded = {name: load_task(name, spec, tokenizer, longest, splits=[split]) for name, spec in specs.items()}
    tasks = [task for task in loaded.values() if split in task.splits]
    if not tasks:
        raise ConfigError(f"none of the tasks {', '.join(specs)} has a {split} split.")
    model = MultitaskModel(encoder, tasks, Streams(0)).to(where)
    checkpoint.load_heads(best, model.heads)
    _check_declared(folder, tasks)
    columns = {name: (spec.id or "row", spec.label) for name, spec in specs.items()}
    return Finished(model, tasks, columns, settings)


def _check_declared(folder: Path, tasks: Iterable[Task]) -> None:
    """RunError where a task is not what the run was trained on."""
    path = folder / "tasks.json"
    try:
        trained = {name: json.loads(path.read_text(encoding="utf8"))[name] for name in declared(tasks)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from None
    for name, found in declared(tasks).items():
        if found != trained[name]:
            raise RunError(f"{folder} was trained with task '{name}' as {trained[name][0]}, not {found[0]}.")
