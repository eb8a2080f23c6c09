"""Train: build the run that `regkit train` or `regkit pretrain` asks for, print its plan, train it."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from rich.console import Console

from regkit.base.errors import typed
from regkit.base.files import follow
from regkit.cli.display import Display, print_effects, print_scores
from regkit.cli.plan import code_run, plan
from regkit.cli.terminal import Terminal, print_line, print_lines
from regkit.cli.trial import details
from regkit.distributed.launch import find_device, joined
from regkit.hooks import catalog
from regkit.runs import checkpoint, folders
from regkit.runs import resume as resuming
from regkit.runs.execute import executed
from regkit.runs.experiment import Experiment
from regkit.runs.finished import was_scored
from regkit.runs.lock import claim
from regkit.runs.recorder import Recorder
from regkit.runs.resumable import Resumable, newest
from regkit.runs.settings import Settings
from regkit.tasks.task import Split, scorable

SCORED: tuple[Split, ...] = ("dev", "test")  # the splits that `regkit eval` is recommended for, the first that there is


def train(
    settings: Settings,
    base: Path | None,
    run: Path | None,
    output: Path | None,
    dry_run: bool,
    quiet: bool = False,
    said: Sequence[str] = (),
) -> Path | None:
    """Train into a new run folder, or go on with `run`.

    `base` is the file that the settings come from, and `said` is what the user must know of them. Returns the folder, but
    for a dry run, and in the first of several processes only.
    """
    with joined(find_device(settings.device)) as processes:
        console = Terminal(quiet=quiet or not processes.first)
        if base and (asked := resuming.sources(settings)):
            print_lines(console, [f"importing, as {base} asks: {asked}"])
        print_lines(console, [*code_run(), *said])
        if run is None:
            folders.check_free(output)
            return _train(console, Experiment.build(settings, processes), output, None, dry_run)
        say = partial(print_line, console)
        with claim(run, say) if processes.first else nullcontext():
            ran = resuming.settings_of(run)
            settings = resuming.same(run, ran, settings)
            if (run / folders.FINISHED).is_file():
                resuming.check_data(run, ran, settings)
                say(f"{run} is finished")
                say(_next(settings, run, "dev" if was_scored(run) else None))
                return run
            resumable = newest(run, say)
            return _train(console, resuming.build(resumable, settings, processes), run, resumable, dry_run)


def _train(
    console: Console, experiment: Experiment, output: Path | None, resumable: Resumable | None, dry_run: bool
) -> Path | None:
    """Print the plan, and train. Returns the run's folder, in the process that writes it."""
    print_lines(console, plan(experiment))
    if resumable:
        print_lines(console, [resumable.describe(experiment.trainer.processes.count)])
    if dry_run:
        print_lines(console, details(experiment))
        return None
    display = Display(console, experiment.trainer.processes.count, experiment.trainer.evaluator)
    with executed(experiment, output, resumable, observers=[display], say=display.say) as recorder:
        if folder := recorder.sink.folder:
            _report(console, experiment, recorder, folder)
    return folder


def _report(console: Console, experiment: Experiment, recorder: Recorder, folder: Path) -> None:
    """Print what the run came to and where it is. What was pretrained becomes an encoder folder."""
    print_effects(console, recorder.effects())
    print_scores(console, recorder.keeping.scores, "best checkpoint: dev")
    settings = experiment.settings
    own = [task for task in experiment.tasks if task.name in (settings.tasks or ())]
    split = next((split for split in SCORED if scorable(own, split)), None)
    if not settings.finetune:
        checkpoint.export_encoder(follow(folder / "best"), folder)
    ask = f"to answer for new texts: {typed('regkit', 'predict', folder, 'FILE', *_allowance(settings))}"
    print_lines(
        console,
        [
            f"{'run' if settings.finetune else 'encoder'} folder: {folder}",
            *([ask] if settings.finetune else []),
            _next(settings, folder, split),
        ],
    )


def _next(settings: Settings, folder: Path, split: Split | None) -> str:
    """Write the command that works next on a run: with a split that has labels, or with other data."""
    if not settings.finetune:
        return f"to build on it: {typed('regkit', 'train', '--encoder', folder, *settings.allowance())}"
    more = {"dev": [], "test": ["--split", "test"]}.get(split or "", ["--data", "PATH"])
    return f"to evaluate it: {typed('regkit', 'eval', folder, *more, *_allowance(settings))}"


def _allowance(settings: Settings) -> list[str]:
    """List the words by which a command may import what builds the run's model."""
    return [*settings.allowance(), *catalog.allowance("build")]
