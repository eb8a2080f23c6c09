"""The command `regkit tune`: search for better settings, and compare them with the default."""

import json
from dataclasses import replace

import typer
from rich.console import Console

from regkit.base.errors import ConfigError, RegkitError, typed
from regkit.base.files import write
from regkit.cli.ablate import check_given, check_rows, settled
from regkit.cli.comparison import show, to_take_up
from regkit.cli.plan import code_run
from regkit.cli.terminal import Terminal, print_line, print_lines
from regkit.cli.workers import let_work
from regkit.experiments.asked import has_failed, is_done
from regkit.experiments.place import Place
from regkit.experiments.search.found import Found
from regkit.experiments.search.progress import Progress
from regkit.experiments.search.search import SEARCH, Search
from regkit.experiments.search.trials import DEFAULT
from regkit.experiments.study.cell import Runner
from regkit.experiments.study.results import read_results
from regkit.experiments.study.study import PLAN, ROUND, Study
from regkit.hooks import catalog

BEST, RECORD = "best.toml", "search.json"  # files of a study: a config to train with, and all trials


def tune(
    place: Place, search: Search, jobs: int, keep_weights: bool, dry_run: bool, missing: RegkitError | None = None
) -> None:
    """Run what is missing of the search, and say what it found. The same call again goes on where it was.

    `missing` says what runs would lack; it is raised if there are any to run.
    """
    console, runner = Terminal(), Runner(keep_weights=keep_weights)
    study = place.study()
    noted = study is not None and PLAN in study.attributes()
    asked, search = search, _joined(search, study, place)
    print_lines(console, [*code_run(), *describe(place, search), *_kept(asked, search)])
    default = search.plan([search.row(DEFAULT, {})], search.seeds)
    results = read_results(study, default) if study else []
    if not (study and is_done(search, study)):
        check_given(search.settings, missing)
        print_lines(console, check_rows(default, results, runner.shared))
        search = (
            search if noted else replace(search, settings=settled(search.settings, runner.shared, [search.settings]))
        )
    if dry_run:
        return
    with place.alone():
        study = study or place.begin()
        study.note(**{PLAN: search.as_values(), ROUND: int(study.attributes().get(ROUND, 0)) + 1})
        place.write(search)
    try:
        let_work(study, runner, jobs, place, search, console)
    finally:
        found = read_found(study, search)
        write_found(place, found)
        print_lines(console, found.summary())
        compare(place, study, found, console)
        print_lines(console, conclude(place, found))
        if not is_done(search, study):
            print_line(console, to_take_up(place, has_failed(search, study), "tune"))
    if found.default.failed or (jobs and not found.progress.is_searched):
        raise typer.Exit(1)


def _joined(search: Search, study: Study | None, place: Place) -> Search:
    """Go on with the search that the study has, if any.

    Raises ConfigError for one of other settings.
    """
    noted = study.attributes().get(PLAN) if study else None
    if noted is None:
        return search
    if SEARCH not in noted:
        raise ConfigError(f"study '{place.name}' is no search; name another --output.")
    return Search.from_values(noted).joined(search, f"study '{place.name}'")


def _kept(asked: Search, search: Search) -> list[str]:
    """Say whether the study has more trials or fresh seeds than were asked for: it never shrinks."""
    ours, theirs = asked.extent, search.extent
    numbers = [("trials", ours.trials, theirs.trials), ("fresh seeds", ours.fresh_seeds, theirs.fresh_seeds)]
    return [
        f"the study keeps its {kept} {what}, though {wanted} were asked for; for fewer, name another --output"
        for what, wanted, kept in numbers
        if wanted < kept
    ]


def describe(place: Place, search: Search) -> list[str]:
    """Describe what is searched, with how many runs, and where they are."""
    extent = search.extent
    runs = extent.trials * extent.seeds + 2 * extent.fresh_seeds
    seeds = "one seed" if extent.seeds == 1 else f"{extent.seeds} seeds"
    fresh = "one fresh seed" if extent.fresh_seeds == 1 else f"{extent.fresh_seeds} fresh seeds"
    lines = [f"study: {place.folder}" + (f", in {place.shown}" if place.storage else "")]
    lines += [f"search {dimension}" for dimension in search.space.values()]
    lines.append(f"trials: {extent.trials} by {extent.sampler}, the first of them the default, each with {seeds}")
    lines.append(f"then the winner and the default with {fresh}: {runs} runs in all, or fewer")
    if extent.seeds == 1:
        lines.append("  with one seed, a search follows what is luck as if it were not: --seeds 3 is safer")
    if extent.fresh_seeds < 2:
        lines.append("  with fewer than two fresh seeds, nothing can be told of what the winner gains")
    return lines


def read_found(study: Study, search: Search) -> Found:
    """Read what the search came to so far."""
    return Found(Progress.of(search, study, study.trials(), int(study.attributes().get(ROUND, 0))))


def write_found(place: Place, found: Found) -> None:
    """Write all trials, and, once the search is over, the config to train with."""
    write(place.folder / RECORD, json.dumps(found.as_json(), indent=2, allow_nan=False))
    if found.progress.is_searched and not found.default.failed:
        write(place.folder / BEST, found.toml(str(place.folder)))


def compare(place: Place, study: Study, found: Found, console: Console) -> None:
    """Print the table of the winner and the default with fresh seeds."""
    if found.gain is None or (winner := found.progress.winner) is None:
        return
    rows = [found.search.row(trial.number, trial.values) for trial in (found.default, winner)]
    plan = found.search.plan(rows, found.search.fresh)
    show(place, plan, read_results(study, plan), "terminal", console)


def conclude(place: Place, found: Found) -> list[str]:
    """Say what the search found, and how to train with it."""
    lines = found.conclusion()
    if (place.folder / BEST).is_file() and found.progress.is_searched:
        allowance = [*found.search.settings.allowance(), *catalog.allowance()]
        lines.append(f"to train with it: {typed('regkit', 'train', place.folder / BEST, *allowance)}")
    return lines
