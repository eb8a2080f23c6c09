"""Workers: let one process, or several, work on a study until it is done."""

import os
import subprocess
import sys
import time
from functools import partial

from rich.console import Console

from regkit.base.errors import StoppedError
from regkit.cli.terminal import print_line
from regkit.experiments.place import Place, threads
from regkit.experiments.plan import Plan
from regkit.experiments.search.search import Search
from regkit.experiments.study.cell import Runner
from regkit.experiments.study.study import Study
from regkit.experiments.study.worker import Worker, said_of_weights
from regkit.hooks import catalog
from regkit.runs.interrupts import Interrupts
from regkit.runs.shared import Shared

LOOK = 0.2  # seconds between two looks at the workers
STORAGE = "REGKIT_STORAGE"  # the variable that hands a storage to workers: a command line is there for all to read


def let_work(study: Study, runner: Runner, jobs: int, place: Place, plan: Plan | Search, console: Console) -> None:
    """Let so many processes work on the study; one is this, and none leaves it to others."""
    for line in said_of_weights(study, runner.keep_weights):
        print_line(console, line)
    if jobs == 1:
        Worker(study, runner, say=partial(print_line, console)).work()
    elif jobs > 1:
        runner.shared = Shared()  # each worker has its own
        _start_workers(console, place, plan, jobs, runner.keep_weights)


def _start_workers(console: Console, place: Place, plan: Plan | Search, jobs: int, keep_weights: bool) -> None:
    """Start workers and wait for them. Raises StoppedError where a signal came, which they all got."""
    words = [sys.executable, "-m", "regkit", "work", str(place.folder.absolute()), *plan.settings.allowance()]
    words += catalog.allowance()
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
