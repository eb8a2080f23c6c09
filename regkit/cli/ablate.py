"""The command `regkit ablate`: compare named sets of plugins and settings over several seeds."""

import time
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import typer

from regkit.base.errors import ConfigError, RegkitError
from regkit.base.randomness import Streams
from regkit.cli import plan as plans
from regkit.cli.comparison import show
from regkit.cli.terminal import Terminal, print_lines
from regkit.cli.workers import let_work
from regkit.distributed.launch import find_device
from regkit.experiments import contest, controls
from regkit.experiments.asked import is_done, read_plan
from regkit.experiments.place import Place
from regkit.experiments.plan import Cell, Plan, check_twins
from regkit.experiments.rows import naming
from regkit.experiments.study.cell import Runner
from regkit.experiments.study.results import Result, read_results
from regkit.experiments.study.study import PLAN, ROUND, UNTIL, Study
from regkit.experiments.tables.formats.cells import seconds
from regkit.experiments.tables.notes import too_few
from regkit.hooks import catalog
from regkit.model.encoders import check_encoder
from regkit.runs.experiment import Experiment
from regkit.runs.robust import ATTACKED
from regkit.runs.settings import Settings
from regkit.runs.shared import Shared
from regkit.tasks.task import scorable
from regkit.training.precision import choose_precision
from regkit.training.stages import collect_stages, measure_length


def ablate(
    place: Place,
    plan: Plan,
    jobs: int,
    keep_weights: bool,
    form: str,
    dry_run: bool,
    picks: bool = False,
    missing: RegkitError | None = None,
) -> None:
    """Run what is missing of the study, and show the table. The same call again goes on where it was.

    `picks` leaves out rows that do not fit: they were picked from all that is installed. `missing` says what runs would
    lack; it is raised if there are any to run.
    """
    console = Terminal(stderr=form != "terminal")  # standard output is the table's
    study = place.study()
    noted = read_plan(study) if study and PLAN in study.attributes() else None
    runner = Runner(keep_weights=keep_weights)
    if picks and not missing:
        plan, left_out = fitting(plan, runner.shared)
        print_lines(console, left_out)
    asked, plan = plan, noted.joined(plan, f"study '{place.name}'") if noted else plan
    if plan.controls and not missing and not (noted and noted.rows.keys() >= plan.rows.keys()):
        plan = with_measured_controls(plan, runner)
    results = read_results(study, plan) if study else [Result(*cell, "waiting") for cell in plan.cells()]
    print_lines(console, [*plans.code_run(), *describe(place, plan, results), *_kept(asked, plan)])
    if not (study and noted and is_done(plan, study)):
        check_given(plan.settings, missing)
        check_twins(plan, noted.rows if noted else ())
        print_lines(console, check_rows(plan, results, runner.shared))
        if not noted:
            runs = [plan.settings_of(Cell(name, plan.seeds[0])) for name in plan.rows]
            plan = replace(plan, settings=settled(plan.settings, runner.shared, runs))
    if dry_run:
        return
    study, plan = begin(place, study, plan)
    if plan.race is not None:
        study.note(**{UNTIL: time.time() + plan.race})
    try:
        let_work(study, runner, jobs, place, plan, console)
    finally:
        plan = read_plan(study)  # another command may have added rows in the meantime
        results = read_results(study, plan)
        show(place, plan, results, form, Terminal())
        study.close()
    wanted = ("finished",) if plan.race is None else ("finished", "waiting")  # a race need not run all
    if jobs and any(result.state not in wanted for result in results):
        raise typer.Exit(1)


def check_given(settings: Settings, missing: RegkitError | None) -> None:
    """Raise what was found to be missing, or an error for a study's encoder that is gone."""
    if missing:
        raise missing
    check_encoder(settings.encoder)


def with_measured_controls(plan: Plan, runner: Runner) -> Plan:
    """Add the controls that take a look at the runs.

    They are early stopping, and the time of the dearest method. Raises RegkitError, which names the row, for one whose runs
    cannot be.
    """
    costs, seed = [1.0], plan.seeds[0]
    for name in controls.methods_of(plan):
        with naming(plan.rows[name]):
            costs.append(runner.operations(plan.settings_of(Cell(name, seed))))
    baseline = Experiment.build(plan.settings_of(Cell(plan.baseline, seed)), shared=runner.shared)
    known = [cost for cost in costs if isfinite(cost)]
    settings = plan.settings
    between, updates = lengths(baseline)
    early, longer = controls.stopped_early(between), controls.as_long(settings, max(known), updates)
    return controls.added(plan, [*early, *longer])


def lengths(experiment: Experiment) -> tuple[int, int]:
    """Count the updates of the last stage between two evaluations, and all of them."""
    trainer = experiment.trainer
    stage, tasks = collect_stages(trainer.hook, trainer.tasks)[-1]
    length = measure_length(trainer.hook, trainer.streams, stage, tasks)
    return min(trainer.eval_steps or length.epoch, length.total), length.total


def settled(settings: Settings, shared: Shared, runs: Sequence[Settings]) -> Settings:
    """Choose the one precision of all runs of a new study, and whether they repeat CUDA graphs.

    Whoever runs them, none is slowed down.
    """
    device = find_device(settings.device)
    encoder = shared.encoder(settings, Streams(settings.seed, device)).encoder
    plugins = {name: catalog.make(name, options) for run in runs for name, options in run.plugins.items()}
    chosen = choose_precision(settings.precision, encoder, device, plugins)
    return settings.model_copy(update={"precision": chosen.format, "cuda_graphs": settings.cuda_graphs is not False})


def begin(place: Place, study: Study | None, plan: Plan) -> tuple[Study, Plan]:
    """Note what the study runs, joined with what another command has noted in the meantime."""
    with place.alone():
        study = study or place.begin()
        if PLAN in study.attributes():
            plan = read_plan(study).joined(plan, f"study '{place.name}'")
        study.note(**{PLAN: plan.as_values(), ROUND: int(study.attributes().get(ROUND, 0)) + 1})
        place.write(plan)
    return study, plan


def _kept(asked: Plan, plan: Plan) -> list[str]:
    """Say which seeds the study has beside those that were asked for: it grows, and never shrinks."""
    more = [str(seed) for seed in plan.seeds if seed not in asked.seeds]
    said = f"the study keeps its seeds {', '.join(more)}, which were not asked for; for fewer, name another --output"
    return [said] if more else []


def describe(place: Place, plan: Plan, results: Sequence[Result]) -> list[str]:
    """Describe rows, seeds, runs, and where they are."""
    lines = [f"study: {place.folder}" + (f", in {place.shown}" if place.storage else "")]
    plain = controls.controls_of(plan) if plan.controls else []
    for name, row in plan.rows.items():
        said = str(row) or "the shared settings"
        what = " (baseline)" if name == plan.baseline else " (control)" if name in plain else ""
        lines.append(f"row {name}{what}: {said}")
    lines.append(f"seeds: {', '.join(map(str, plan.seeds))}")
    if plan.radii:
        within = " and ".join(map(str, plan.radii))
        lines.append(
            f"each run is also scored on changed dev examples, at most {ATTACKED} of a task under attacks within {within} "
            "RMS of the word embeddings"
        )
    states = [result.state for result in results]
    done = [f"{states.count(state)} {state}" for state in ("finished", "failed", "running") if state in states]
    if plan.race is None:
        lines.append(f"runs: {len(plan.rows)} rows x {len(plan.seeds)} seeds = {len(results)}" + _after(done))
        if few := too_few(len(plan.seeds), len(plan.rows) - 1):
            lines.append(f"p: {few} (exact sign-flip test)")
    else:
        against = " and ".join(contest.rules(plan).controls)
        lines.append(
            f"a race of {seconds(plan.race)} against {against}, at most {len(plan.seeds)} seeds" + _after(done)
        )
    return lines


def _after(parts: Sequence[str]) -> str:
    return f": {', '.join(parts)}" if parts else ""


def fitting(plan: Plan, shared: Shared) -> tuple[Plan, list[str]]:
    """Leave out the rows whose runs cannot be, and say why.

    Raises RegkitError if the baseline is one of them.
    """
    fits, said = dict(plan.rows), []
    for name in plan.rows:
        try:
            Experiment.build(plan.settings_of(Cell(name, plan.seeds[0])), shared=shared)
        except RegkitError as error:
            if name == plan.baseline:
                raise
            del fits[name]
            said.append(f"left out: {name}: {error}")
    return replace(plan, rows=fits), said


def check_rows(plan: Plan, results: Sequence[Result], shared: Shared) -> list[str]:
    """Build each row that has not begun once, so that what does not fit is said before training.

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
        if not scorable(experiment.tasks, "dev"):
            data = experiment.settings.data or "the demo"
            raise ConfigError(f"no task of {data} has a dev split with labels, so there is nothing to compare.")
        if name == plan.baseline:
            lines = [f"each run, as that of {name} with seed {plan.seeds[0]}:", *(f"  {line}" for line in said)]
    return lines
