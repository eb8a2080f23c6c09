"""The command `regkit ablate`: run named sets of plugins and settings with several seeds, and compare them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import typer
from rich.console import Console

from regkit.base.errors import RegkitError, StoppedError, typed
from regkit.base.files import write
from regkit.cli import plan as plans
from regkit.cli.terminal import Terminal, print_line, print_lines
from regkit.experiments import contest, formats
from regkit.experiments.cell import Runner
from regkit.experiments.formats.cells import seconds
from regkit.experiments.place import Place, threads
from regkit.experiments.plan import Cell, Plan
from regkit.experiments.results import Result, read_results
from regkit.experiments.search import Search
from regkit.experiments.storage import DATABASE
from regkit.experiments.study import PLAN, ROUND, UNTIL, Study
from regkit.experiments.summarize import summarize
from regkit.experiments.table import Table
from regkit.experiments.worker import Worker, read_plan
from regkit.runs.experiment import Experiment
from regkit.runs.interrupts import Interrupts
from regkit.runs.shared import Shared

LOOK = 0.2  # seconds between two looks at the workers
ENDINGS = {"markdown": ".md", "latex": ".tex", "csv": ".csv", "json": ".json"}  # of the files of each form
STORAGE = "REGKIT_STORAGE"  # the variable that hands a storage to workers: a command line is there for all to read


def ablate(
    place: Place, plan: Plan, jobs: int, keep_weights: bool, form: str, dry_run: bool, picks: bool = False
) -> None:
    """Run what is missing of the study, and show the table. The same call again goes on where it was.

    `picks` leaves out rows that do not fit: they were picked from all that is installed.
    """
    console = Terminal(stderr=form != "terminal")  # standard output is the table's
    study = find_study(place)
    begun = study and PLAN in study.attributes()
    runner = Runner(keep_weights=keep_weights)
    if picks:
        plan, left_out = fitting(plan, runner.shared)
        print_lines(console, left_out)
    plan = read_plan(study).joined(plan, f"study '{place.name}'") if study and begun else plan
    results = read_results(study, plan) if study else [Result(*cell, "waiting") for cell in plan.cells()]
    print_lines(console, describe(place, plan, results))
    print_lines(console, check_rows(plan, results, runner.shared))
    if dry_run:
        return
    place.write(plan)
    study = study or Study.create(place.name, place.folder, place.address)
    study.note(**{PLAN: plan.as_values(), ROUND: int(study.attributes().get(ROUND, 0)) + 1})
    if plan.race is not None:
        study.note(**{UNTIL: time.time() + plan.race})
    try:
        _work(study, runner, jobs, place, plan, console)
    finally:
        results = read_results(study, plan)
        show(place, plan, results, form, Terminal())
    wanted = ("finished",) if plan.race is None else ("finished", "waiting")  # a race need not run all
    if jobs and any(result.state not in wanted for result in results):
        raise typer.Exit(1)


def _work(study: Study, runner: Runner, jobs: int, place: Place, plan: Plan, console: Console) -> None:
    """Let so many processes work on the study; one is this, and none leaves it to others."""
    if jobs == 1:
        Worker(study, runner, say=partial(print_line, console)).work()
    elif jobs > 1:
        runner.shared = Shared()  # each worker has its own
        start_workers(console, place, plan, jobs, runner.keep_weights)


def find_study(place: Place) -> Study | None:
    """Find the study, if it has begun; nothing is made to find out, but for the tables of a storage elsewhere."""
    if not place.storage and not (place.folder / DATABASE).is_file():
        return None
    return Study.find(place.name, place.folder, place.address)


def describe(place: Place, plan: Plan, results: Sequence[Result]) -> list[str]:
    """Describe rows, seeds, runs, and where they are."""
    lines = [f"study: {place.folder}" + (f", in {place.shown}" if place.storage else "")]
    for name, row in plan.rows.items():
        said = str(row) or "the shared settings"
        lines.append(f"row {name}{' (baseline)' if name == plan.baseline else ''}: {said}")
    lines.append(f"seeds: {', '.join(map(str, plan.seeds))}")
    states = [result.state for result in results]
    done = [f"{states.count(state)} {state}" for state in ("finished", "failed", "running") if state in states]
    if plan.race is None:
        lines.append(f"runs: {len(plan.rows)} rows x {len(plan.seeds)} seeds = {len(results)}" + _after(done))
    else:
        controls = " and ".join(contest.rules(plan).controls)
        lines.append(
            f"a race of {seconds(plan.race)} against {controls}, at most {len(plan.seeds)} seeds" + _after(done)
        )
    return lines


def fitting(plan: Plan, shared: Shared) -> tuple[Plan, list[str]]:
    """Leave out the rows whose runs cannot be, and say why."""
    fits, said = dict(plan.rows), []
    for name in plan.rows:
        try:
            Experiment.build(plan.settings_of(Cell(name, plan.seeds[0])), shared=shared)
        except RegkitError as error:
            del fits[name]
            said.append(f"left out: {name}: {error}")
    return replace(plan, rows=fits), said


def _after(parts: Sequence[str]) -> str:
    return f": {', '.join(parts)}" if parts else ""


def check_rows(plan: Plan, results: Sequence[Result], shared: Shared) -> list[str]:
    """Build each row that has not begun once, so that what does not fit is said before anything is trained.

    Returns the plan of the baseline's runs. Raises RegkitError, which names the row.
    """
    begun = {result.row for result in results if result.state != "waiting"}
    lines: list[str] = []
    for name in plan.rows:
        if name in begun:
            continue
        with naming_row(name):
            experiment = Experiment.build(plan.settings_of(Cell(name, plan.seeds[0])), shared=shared)
            said = plans.plan(experiment)
        if name == plan.baseline:
            lines = [f"each run, as that of {name} with seed {plan.seeds[0]}:", *(f"  {line}" for line in said)]
    return lines


@contextmanager
def naming_row(name: str) -> Iterator[None]:
    """Let an error inside name the row."""
    try:
        yield
    except RegkitError as error:
        raise type(error)(f"row '{name}': {error}") from None


def start_workers(console: Console, place: Place, plan: Plan | Search, jobs: int, keep_weights: bool) -> None:
    """Start workers and wait for them. Raises StoppedError where a signal came, which they all got."""
    words = [sys.executable, "-m", "regkit", "work", str(place.folder.absolute()), *plan.settings.allowance()]
    environment = os.environ | threads(jobs) | ({STORAGE: place.storage} if place.storage else {})
    words += ["--keep-weights"] if keep_weights else []
    with Interrupts() as interrupts:
        # A session of their own: Ctrl-C comes to this process alone, which hands it on once.
        workers = [subprocess.Popen(words, env=environment, start_new_session=True) for _ in range(jobs)]
        try:
            told = False
            while any(worker.poll() is None for worker in workers):
                time.sleep(LOOK)
                if interrupts.asked and not told:
                    told = True
                    for worker in workers:
                        worker.send_signal(interrupts.asked)
        finally:
            for worker in workers:
                worker.kill()
    for worker in workers:
        if (worker.returncode or 0) < 0:
            print_line(console, f"a worker was ended by signal {-worker.returncode}; its run can be taken up")
    if interrupts.asked:
        raise StoppedError(f"stopped by {interrupts.asked.name}; the same command goes on", interrupts.asked)


def show(place: Place, plan: Plan, results: Sequence[Result], form: str, console: Console) -> None:
    """Write the table of a study, as far as it is, into its folder in every form, and print it in one."""
    results = [each for each in results if plan.race is None or each.state != "waiting"]  # which a race may never run
    table = summarize(place.name, {name: row.changes for name, row in plan.rows.items()}, results, plan.baseline)
    for ending, written in formats.BY_ENDING.items():
        write(place.folder / f"table{ending}", written(table))
    if form == "terminal":
        console.print(formats.as_renderable(table))
        print_lines(console, _told(plan, results))
        print_lines(console, _next(place, plan, table))
    else:
        console.out((place.folder / f"table{ENDINGS[form]}").read_text(encoding="utf8"), end="", highlight=False)


def _told(plan: Plan, results: Sequence[Result]) -> list[str]:
    """Say what a race came to; nothing for a study that is none."""
    if plan.race is None:
        return []
    found = contest.verdict(plan, results)
    dropped = [f"dropped: {row}: {why}" for row, why in found.dropped.items()]
    return [*dropped, "the looks of a race are paid for in the next line, and not in the table:", str(found)]


def _next(place: Place, plan: Plan, table: Table) -> list[str]:
    """Write the commands that work next on a study."""
    lines = [f"tables: {place.folder / 'table.md'}, .tex, .csv and .json"]
    if any(row.missing for row in table.rows) and plan.race is None:
        lines.append(f"to take up what is not finished: {typed('regkit', 'work', place.folder)}")
    return [*lines, f"to look at it: {typed('regkit', 'report', place.folder)}"]
