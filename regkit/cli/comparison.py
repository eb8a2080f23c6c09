"""Comparison: show the table of a study, and what a race came to."""

from collections.abc import Sequence

from rich.console import Console

from regkit.base.errors import typed
from regkit.cli.terminal import print_lines
from regkit.experiments import contest
from regkit.experiments.place import Place
from regkit.experiments.plan import Plan
from regkit.experiments.study.results import Result
from regkit.experiments.tables import formats
from regkit.experiments.tables.summarize import summarize
from regkit.hooks import catalog
from regkit.runs.folders import STUDY


def show(place: Place, plan: Plan, results: Sequence[Result], form: str, console: Console) -> None:
    """Write the table of a study, as far as it is, into its folder in every form, and print it in one."""
    results = [each for each in results if plan.race is None or each.state != "waiting"]  # which a race may never run
    table = summarize(place.name, {name: row.changes for name, row in plan.rows.items()}, results, plan.baseline)
    formats.save(table, place.folder)
    if form == "terminal":
        console.print(formats.as_renderable(table))
        print_lines(console, formats.remarks(table))
        print_lines(console, _told(plan, results))
        print_lines(console, _next(place, plan, results))
    else:
        console.out(formats.FORMATS[form](table), end="", highlight=False)


def _told(plan: Plan, results: Sequence[Result]) -> list[str]:
    """Say what a race came to; nothing for a study that is none."""
    if plan.race is None:
        return []
    found = contest.verdict(plan, results)
    dropped = [f"dropped: {row}: {why}" for row, why in found.dropped.items()]
    return [*dropped, "the looks of a race are paid for in the next line, and not in the table:", str(found)]


def to_take_up(place: Place, failed: bool, command: str) -> str:
    """Write the command that goes on with a study: a worker's, or its own if all that is left has failed."""
    if failed:
        return f"to try again what failed: {typed('regkit', command, place.folder / STUDY, *catalog.allowance())}"
    return f"to take up what is not finished: {typed('regkit', 'work', place.folder, *catalog.allowance())}"


def _next(place: Place, plan: Plan, results: Sequence[Result]) -> list[str]:
    """Write the commands that work next on a study."""
    lines = [f"tables: {place.folder / 'table.md'}, .tex, .csv and .json"]
    states = {each.state for each in results}
    if states - {"finished"} and plan.race is None:
        lines.append(to_take_up(place, not states & {"running", "waiting"}, "ablate"))
    return [*lines, f"to look at it: {typed('regkit', 'report', place.folder)}"]
