"""Train: build the run that `regkit train` or `regkit pretrain` asks for, print its plan, train it."""

from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from regkit.base.errors import RegkitError, RunError, StoppedError
from regkit.base.failures import last_line
from regkit.cli.display import Display, print_effects, print_scores
from regkit.cli.plan import details, plan, print_plan
from regkit.cli.terminal import Terminal
from regkit.distributed.launch import find_device, joined
from regkit.runs import checkpoint, folders
from regkit.runs import resume as resuming
from regkit.runs.experiment import Experiment
from regkit.runs.follower import Follower
from regkit.runs.interrupts import Interrupts
from regkit.runs.lock import claim
from regkit.runs.recorder import FINISHED, Recorder
from regkit.runs.resume import Begun
from regkit.runs.settings import Settings
from regkit.training.effects import Meter


def train(settings: Settings, base: Path | None, run: Path | None, output: Path | None, dry_run: bool) -> None:
    """Train into a new run folder, or go on with `run`. `base` is the file that the settings come from."""
    with joined(find_device(settings.device)) as processes:
        console = Terminal(quiet=not processes.first)
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
            raise RunError(f"{where}: {last_line(error)}.") from error
        recorder.finish()
        print_effects(console, recorder.effects())
        print_scores(console, recorder.keeping.scores, "best checkpoint: dev")
        folder = recorder.folder
        if not experiment.settings.finetune:
            checkpoint.export_encoder(folder / "best", folder)
            print_plan(console, [f"encoder folder: {folder}", f"to build on it: regkit train --encoder {folder}"])
            return
    print_plan(console, [f"run folder: {folder}", f"to evaluate it: regkit eval {folder}"])
