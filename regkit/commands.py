"""Commands: what the command line does, once it knows what was asked."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from regkit import catalog
from regkit.data import demo
from regkit.display import Display, print_effects, print_scores
from regkit.effects import Meter
from regkit.errors import PluginError, RegkitError, RunError, StoppedError
from regkit.evaluation import Scores, outputs, passes, score
from regkit.experiment import Experiment, find_device
from regkit.files import absolute
from regkit.memory import Retry, SmallerError, halved, ran_out
from regkit.model import MultitaskModel
from regkit.plan import details, plan, print_plan
from regkit.processes import Processes, joined
from regkit.runs import checkpoint, folders
from regkit.runs import resume as resuming
from regkit.runs.follower import Follower
from regkit.runs.interrupts import Interrupts
from regkit.runs.lock import claim
from regkit.runs.recorder import FINISHED, Recorder
from regkit.runs.resume import Begun
from regkit.settings import Settings
from regkit.tasks import FINETUNE, Split, Task

DOMAIN = "domain"  # the plugin behind `regkit pretrain`: the one that the command line knows by name
BUDGET = 16384  # tokens at a time when evaluating


def train(
    config: Path | None,
    given: Mapping[str, Any],
    plugins: Sequence[str],
    output: Path | None,
    resume: str | None,
    dry_run: bool,
) -> None:
    """Train as the file and the options say, into a new run folder, or go on with the run that `resume` means."""
    run = resuming.find(resume, output)
    base = run / folders.CONFIG if run and resume != resuming.AUTO and not config else config
    settings = gather(base, given, plugins)
    with joined(find_device(settings.device)) as processes:
        console = Console(quiet=not processes.first)
        if base and settings.plugins:
            print_plan(console, [f"importing, as {base} asks: {resuming.sources(settings)}"])
        if run is None:
            folders.check_free(output or folders.RUNS / "new")
            _train(console, Experiment.build(settings, processes), output, None, dry_run)
            return
        with claim(run) if processes.first else nullcontext():
            settings = resuming.same(run, Settings.read(run / folders.CONFIG), settings)
            if (run / FINISHED).is_file():
                print_plan(console, [f"{run} is finished", f"to evaluate it: regkit eval {run}"])
                return
            begun = resuming.newest(run, lambda line: print_plan(console, [line]))
            _train(console, resuming.build(begun, settings, processes), run, begun, dry_run)


def pretrain(
    given: Mapping[str, Any], domain: Mapping[str, Any], plugins: Sequence[str], output: Path | None, dry_run: bool
) -> None:
    """Train the stage of the plugin `domain` alone, and leave an encoder folder."""
    settings = gather(None, {"data": None, "finetune": False, **given}, plugins)
    options = dict(domain) | settings.plugins.get(DOMAIN, {})
    settings = settings.model_copy(update={"plugins": {DOMAIN: options} | {**settings.plugins, DOMAIN: options}})
    folders.check_free(output or folders.RUNS / "new")
    with joined(find_device(settings.device)) as processes:
        console = Console(quiet=not processes.first)
        _train(console, Experiment.build(settings, processes), output, None, dry_run)


def _train(console: Console, experiment: Experiment, output: Path | None, begun: Begun | None, dry_run: bool) -> None:
    """Print the plan, and train."""
    print_plan(console, plan(experiment))
    if begun:
        print_plan(console, [begun.told(experiment.trainer.processes.count)])
    if dry_run:
        print_plan(console, details(experiment))
        return
    meter = Meter(experiment.trainer, experiment.composition, experiment.settings.measure_every)
    processes, interrupts = experiment.trainer.processes, Interrupts()
    display = Display(console, processes.count)
    processes.wait()  # before the first one writes: all have seen the folder as it was
    if not processes.first:
        for follower in (Follower(experiment, meter, interrupts), meter):
            experiment.composition.observe(follower)
        with interrupts:
            experiment.trainer.train()
        return
    recorder = Recorder(experiment, meter, output, begun, interrupts, display.say)
    for observer in (recorder, display, meter):
        experiment.composition.observe(observer)
    with recorder, interrupts:
        try:
            with display:
                experiment.trainer.train()
        except StoppedError:
            raise
        except RegkitError as error:
            error.remedy = recorder.rescue()
            raise
        except OSError as error:
            raise RunError(f"{error.filename or 'writing'}: {error.strerror or error}.", recorder.rescue()) from error
        except Exception as error:
            if not (begun and begun.begins(experiment.trainer.position.step)):
                raise
            where = f"the checkpoint {begun.checkpoint} cannot be resumed from"  # its state was used for the first time
            raise RunError(f"{where}: {catalog.last_line(error)}.") from error
        recorder.finish()
        print_effects(console, recorder.effects())
        print_scores(console, recorder.keeping.scores, "best checkpoint: dev")
        folder = recorder.folder
        if not experiment.settings.finetune:
            checkpoint.export_encoder(folder / "best", folder)
            print_plan(console, [f"encoder folder: {folder}", f"to build on it: regkit train --encoder {folder}"])
            return
    print_plan(console, [f"run folder: {folder}", f"to evaluate it: regkit eval {folder}"])


def gather(config: Path | None, given: Mapping[str, Any], plugins: Sequence[str]) -> Settings:
    """The settings of the file, changed by those given on the command line; paths are made absolute."""
    base = Settings.read(config) if config else Settings()
    if config is None and not {"data", "encoder"} & given.keys():
        base = base.model_copy(update=demo.SETTINGS)
    chosen = {name: dict(options) for name, options in base.plugins.items()}
    parsed = [catalog.parse(text) for text in plugins]
    for name, options in parsed:
        if [other for other, _ in parsed].count(name) > 1:
            raise PluginError(f"--plugin {name} is given twice; one plugin has one instance a run.")
        chosen[name] = chosen.get(name, {}) | options
    values = base.model_dump() | dict(given) | {"plugins": chosen}
    if "epochs" in given and "steps" not in given:
        values["steps"] = None
    if values["data"] is not None:
        values["data"] = absolute(Path(values["data"]))
    if values["encoder"] and Path(values["encoder"]).is_dir():
        values["encoder"] = str(absolute(Path(values["encoder"])))
    return Settings.checked(values, "the command line")


def evaluate(
    run: Path | None, split: Split, data: Path | None, predictions: Path | None, device: str, as_json: bool
) -> None:
    """Score a run's best checkpoint on a split, and write predictions where asked."""
    folder = folders.find_run(run)
    with joined(find_device(device)) as processes:
        finished = folders.load_run(folder, split, data=data, device=device)
        found = {task.name: fitting_outputs(finished.model, task, split, processes) for task in finished.tasks}
    if not processes.first:
        return
    scores: Scores = {}
    for task in finished.tasks:
        output = found[task.name]
        labels = task.splits[split].labels
        if labels is not None:
            scores[task.name] = score(task, output, labels)
        if predictions:
            write_predictions(predictions, task, split, output, finished.columns[task.name])
    if as_json:
        print(json.dumps({split: scores}, indent=2))
        return
    console = Console()
    if scores:
        print_scores(console, scores, f"{folder}: {split}")
    for name in [task.name for task in finished.tasks if task.name not in scores]:
        said = f"predictions are in {predictions}" if predictions else "use --predictions DIR to write predictions"
        print_plan(console, [f"{name}: the {split} split has no labels; {said}."])


def fitting_outputs(model: MultitaskModel, task: Task, split: Split, processes: Processes) -> Tensor:
    """A task's outputs over a split, in smaller passes where memory runs out."""
    budget, retry = BUDGET, Retry()
    while True:
        with retry:
            try:
                return outputs(model, task, split, budget=budget, precision=torch.float32, processes=processes)
            except Exception as error:
                if not ran_out(error):
                    raise
                budget = halved(passes(task, split, budget), f"on task '{task.name}'")
                raise SmallerError from error


def write_predictions(folder: Path, task: Task, split: Split, output: Tensor, columns: tuple[str, str]) -> None:
    """`TASK-SPLIT.csv`: the name of each example, and its predicted label as the data writes labels."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    for name, value in zip(task.splits[split].ids, task.objective.prediction(output).tolist(), strict=True):
        rows.writerow([name, task.objective.text(value)])
    folder.mkdir(parents=True, exist_ok=True)
    folders.write(folder / f"{task.name}-{split}.csv", text.getvalue())


def plugins(name: str | None) -> None:
    """List the installed plugins with the first line of their modules, or explain one of them."""
    console = Console()
    if name is None:
        for each in catalog.installed():
            try:
                first = catalog.summary(each)[0]
            except PluginError as error:  # one that cannot be imported does not hide the others
                first = str(error)
            console.print(Text.assemble((each, "bold"), f"  {first}"), soft_wrap=True)
        return
    first, rest = catalog.summary(name)
    console.print(Text.assemble((name, "bold"), f"  {first}"), soft_wrap=True)
    if rest:
        console.print(f"\n{rest}", markup=False, highlight=False)
    table = Table("option", "type", "default", "meaning", box=None, pad_edge=False)
    for option in catalog.options(catalog.load_class(name)).values():
        default = "needed" if option.default is MISSING else str(option.default)
        table.add_row(*map(Text, (option.name, option.type, default, option.meaning)))
    table.add_row(catalog.STAGES, "list", FINETUNE, "The stages in which it acts.")
    console.print()
    console.print(table)
