"""The command `regkit work`: a worker of a study, as any scheduler starts it."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import typer

from regkit.base.errors import ConfigError, typed
from regkit.cli.comparison import to_take_up
from regkit.cli.plan import code_run
from regkit.cli.terminal import Terminal, print_line
from regkit.experiments.asked import has_failed, read_asked
from regkit.experiments.place import Place
from regkit.experiments.plan import Plan
from regkit.experiments.search.search import Search
from regkit.experiments.study.cell import Runner
from regkit.experiments.study.study import Study
from regkit.experiments.study.worker import Worker, said_of_weights
from regkit.hooks import option_values


def work(place: Place, factory: str | None, keep_weights: bool) -> None:
    """Take runs of the study until none is left.

    Raises StoppedError where a signal came, and ends with status 1 if runs have failed.
    """
    study = Study.open(place.name, place.folder, place.address)
    plan = read_asked(study)
    if (asked := plan.settings.encoder_factory) != factory and asked:
        raise ConfigError(f"study '{study.name}' asks to import {asked}; add {typed('--encoder-factory', asked)}.")
    for name, options in _plugins(plan):
        option_values.check_code(name, options)
    place.write(plan)
    say = partial(print_line, Terminal())
    for line in [*code_run(), *said_of_weights(study, keep_weights)]:
        say(line)
    with closing(study):
        worker = Worker(study, Runner(keep_weights=keep_weights), say=say)
        worker.work()
        failed = has_failed(plan, study)
    if not worker.taken:
        say(f"nothing is left to do in study '{place.name}'" + (" but what failed" if failed else ""))
    if failed:
        say(to_take_up(place, failed, "tune" if isinstance(plan, Search) else "ablate"))
        raise typer.Exit(1)


def _plugins(plan: Plan | Search) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the plugins of a study's runs with their options: those that all share, and those of its rows."""
    yield from plan.settings.plugins.items()
    for row in plan.rows.values() if isinstance(plan, Plan) else ():
        yield from ((name, options) for name, options in row.plugins.items() if options is not False)
