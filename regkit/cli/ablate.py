"""The command `regkit ablate`: run named sets of plugins and settings with several seeds, and compare them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import fmean

import typer
from rich.console import Console

from regkit.base.errors import RegkitError, StoppedError
from regkit.cli import plan as plans
from regkit.cli.terminal import Terminal, print_line, print_lines
from regkit.experiments.cell import Runner
from regkit.experiments.formats import FORMATS, as_renderable, save
from regkit.experiments.place import Place, threads
from regkit.experiments.plan import Cell, Plan
from regkit.experiments.results import Result, read_results
from regkit.experiments.rows import Row
from regkit.experiments.search import Search
from regkit.experiments.study import PLAN, ROUND, UNTIL, Study
from regkit.experiments.summarize import summarize
from regkit.experiments.worker import Worker, race_of, read_plan
from regkit.runs.experiment import Experiment
from regkit.runs.interrupts import Interrupts
from regkit.runs.shared import Shared

LOOK = 0.2  # seconds between two looks at the workers
STORAGE = "REGKIT_STORAGE"  # the variable that hands a storage to workers: a command line is there for all to read


def ablate(
    place: Place, plan: Plan, jobs: int, keep_weights: bool, form: str, dry_run: bool, seconds: float | None
) -> None:
    """Run what is missing of the study, in so many seconds, and show the table. The same call again goes on."""
    console = Terminal(stderr=form != "terminal")  # standard output is the table's
    study = Study.find(place.name, place.folder, place.address)
    begun = study and PLAN in study.attributes()
    plan = read_plan(study).joined(plan, f"study '{place.name}'") if study and begun else plan
    results = read_results(study, plan) if study else [Result(*cell, "waiting") for cell in plan.cells()]
    runner = Runner(keep_weights=keep_weights)
    print_lines(console, describe(place, plan, results))
    print_lines(console, check_rows(plan, results, runner.shared))
    if dry_run:
        return
    place.write(plan)
    study = study or Study.create(place.name, place.folder, place.address)
    until = time.time() + seconds if seconds else None
    study.note(**{PLAN: plan.as_values(), ROUND: int(study.attributes().get(ROUND, 0)) + 1, UNTIL: until})
    try:
        let_work(study, runner, jobs, place, plan, console)
    finally:
        results = [result for result in read_results(study, plan) if not (plan.racing and result.state == "waiting")]
        show(place, plan, results, form, Terminal())
        study.close()
    if jobs and any(result.state != "finished" for result in results):
        raise typer.Exit(1)


def let_work(study: Study, runner: Runner, jobs: int, place: Place, plan: Plan | Search, console: Console) -> None:
    """Let so many processes work on the study; one is this, and none leaves it to others."""
    if jobs == 1:
        Worker(study, runner, say=partial(print_line, console)).work()
    elif jobs > 1:
        runner.shared = Shared()  # each worker has its own
        _start_workers(console, place, plan, jobs, runner.keep_weights)


def describe(place: Place, plan: Plan, results: Sequence[Result]) -> list[str]:
    """Describe rows, seeds, runs, and where they are."""
    lines = [f"study: {place.folder}" + (f", in {place.shown}" if place.storage else "")]
    for name, row in plan.rows.items():
        said = str(row) or "the shared settings"
        lines.append(f"row {name}{' (baseline)' if name == plan.baseline else ''}: {said}")
    lines.append(f"seeds: {', '.join(map(str, plan.seeds))}")
    states = [result.state for result in results]
    done = [f"{states.count(state)} {state}" for state in ("finished", "failed", "running") if state in states]
    most = "at most " if plan.racing else ""
    lines.append(f"runs: {most}{len(plan.rows)} rows x {len(plan.seeds)} seeds = {len(results)}" + _after(done))
    return lines


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
        with naming(plan.rows[name]):
            experiment = Experiment.build(plan.settings_of(Cell(name, plan.seeds[0])), shared=shared)
            said = plans.plan(experiment)
        if name == plan.baseline:
            lines = [f"each run, as that of {name} with seed {plan.seeds[0]}:", *(f"  {line}" for line in said)]
    return lines


@contextmanager
def naming(row: Row) -> Iterator[None]:
    """Let an error inside name the row, unless it is of the settings that all share."""
    try:
        yield
    except RegkitError as error:
        if not row.changes:
            raise
        raise type(error)(f"row '{row.name}': {error}") from None


def _start_workers(console: Console, place: Place, plan: Plan | Search, jobs: int, keep_weights: bool) -> None:
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
    """Print the table of a study as far as it is, and write it into its folder in every form."""
    table = summarize(place.name, {name: row.changes for name, row in plan.rows.items()}, results, plan.baseline)
    if plan.racing:
        table = replace(table, notes=[verdict(plan, results), *table.notes])
    save(table, place.folder)
    if form == "terminal":
        console.print(as_renderable(table))
    else:
        console.out(FORMATS[form](table), end="", highlight=False)


def verdict(plan: Plan, results: Sequence[Result]) -> str:
    """Say what a race has come to."""
    scores: dict[str, dict[int, float]] = {}
    seconds: dict[str, list[float]] = {}
    for result in results:
        if result.state == "finished":
            scores.setdefault(result.row, {})[result.seed] = result.value
            seconds.setdefault(result.row, []).append(result.seconds)
    failed = [(result.row, result.seed) for result in results if result.state == "failed"]
    found = race_of(plan).verdict(scores, {row: fmean(each) for row, each in seconds.items()}, failed)
    dropped = "".join(f" '{row}' was dropped: {why}." for row, why in found.dropped.items())
    return f"{found}{dropped}"
