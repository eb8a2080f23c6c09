"""The command `regkit work`: a worker of a study, as any scheduler starts it."""

from contextlib import closing
from functools import partial

from regkit.base.errors import ConfigError, typed
from regkit.cli.plan import code_run
from regkit.cli.terminal import Terminal, print_line
from regkit.experiments.asked import read_asked
from regkit.experiments.place import Place
from regkit.experiments.study.cell import Runner
from regkit.experiments.study.study import Study
from regkit.experiments.study.worker import Worker


def work(place: Place, factory: str | None, keep_weights: bool) -> None:
    """Take runs of the study until none is left. Raises StoppedError where a signal came."""
    study = Study.open(place.name, place.folder, place.address)
    plan = read_asked(study)
    if (asked := plan.settings.encoder_factory) != factory and asked:
        raise ConfigError(f"study '{study.name}' asks to import {asked}; add {typed('--encoder-factory', asked)}.")
    place.write(plan)
    say = partial(print_line, Terminal())
    for line in code_run():
        say(line)
    with closing(study):
        worker = Worker(study, Runner(keep_weights=keep_weights), say=say)
        worker.work()
    if not worker.taken:
        say(f"nothing is left to do in study '{study.name}'")
