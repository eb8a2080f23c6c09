"""Worker: take the cells of a study one after the other, until none is left or it is asked to stop."""

import gc
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regkit.base.errors import RegkitError, RunError, StoppedError, short, typed
from regkit.base.failures import last_line
from regkit.experiments.asked import choose, order_of, read_asked
from regkit.experiments.plan import Cell, Plan
from regkit.experiments.study.alive import PATIENCE, WORKERS, Pulse
from regkit.experiments.study.given import changed
from regkit.experiments.study.order import Order
from regkit.experiments.study.results import cell_of
from regkit.experiments.study.study import (
    CHANGES,
    ERROR,
    GIVEN,
    ROUND,
    RUNS,
    STOPPED,
    Claim,
    Study,
    is_complete,
    is_running,
)
from regkit.hooks import catalog
from regkit.runs.folders import is_run
from regkit.runs.settings import Settings

LOOK = 5.0  # seconds between two looks at cells whose workers may be dead
KEEPS = "keep_weights"  # an attribute of a trial


@dataclass
class Worker:
    """Takes the runs of a study, one after the other.

    The runner's `run` trains one in a folder and returns its outcome, and `free` frees the folder.
    """

    study: Study
    runner: Any  # a `cell.Runner`, or what stands for one in a test
    say: Callable[[str], None] = lambda line: None
    order: Callable[[Plan, float], Order] = order_of  # of an ablation's runs
    claim: Claim | None = None  # what it is at
    taken: int = 0  # runs so far
    waits: bool = False  # for a worker of which nothing is known; it was said

    def work(self) -> None:
        """Take cells until none is left.

        Raises StoppedError where a signal came; what it was at can be taken up.
        """
        self.runner.check = self._check_given
        gc.collect()
        gc.freeze()  # what was imported: the collection before each run would look through it for a third of a second
        with self.runner.interrupts, Pulse(self.study.folder / WORKERS, self._beat) as pulse:
            self._sweep()
            while not self._stopped():
                trials = self.study.trials()
                self.study.bury(trials)
                attributes = self.study.attributes()
                choice = choose(read_asked(self.study), self.study, trials, attributes, self.order)
                if choice.cell is not None:
                    self._take(choice.plan, choice.cell, attributes.get(ROUND, 0), trials, pulse, choice.said)
                elif choice.later:
                    self._tell_unknown(trials)
                    time.sleep(LOOK)
                else:
                    return

    def _tell_unknown(self, trials: Sequence[Any]) -> None:
        """Say once why nothing happens where nobody knows whether the worker of a run lives."""
        if not self.waits and any(is_running(each) and self.study.verdict(each) == "unknown" for each in trials):
            self.waits = True
            self.say(f"waits for a run whose worker shows no sign of life: it counts as ended after {PATIENCE:.0f} s")

    def _check_given(self, found: dict[str, str]) -> None:
        """Refuse a run that would have other data, or another encoder, than earlier ones. Raises RunError."""
        earlier = self.study.attributes().get(GIVEN, {})
        if other := changed(earlier, found):
            raise RunError(
                f"{other} is no longer what earlier runs of this study had; name another --output to begin a new one."
            )
        if found.keys() - earlier.keys():
            self.study.note(**{GIVEN: earlier | found})

    def _sweep(self) -> None:
        """Free the weights that a worker left which was killed right after it had finished its run."""
        for trial in self.study.trials():
            folder = self.study.run_folder(trial)
            if folder and is_complete(trial) and not trial.user_attrs.get(KEEPS) and os.path.lexists(folder / "last"):
                self.runner.free(folder)

    def _stopped(self) -> bool:
        """Whether a signal has come; StoppedError says so."""
        if asked := self.runner.interrupts.asked:
            raise StoppedError(f"stopped by {asked.name}; the same command goes on", asked)
        return False

    def _beat(self, count: int) -> None:
        """Show that the worker lives, and stop the run that another worker has taken up."""
        try:
            if (claim := self.claim) and not (claim.lost or claim.set(beat=count) or claim.ended):
                claim.lost, self.runner.interrupts.asked = True, signal.SIGTERM
        except RegkitError:
            return  # the storage is out of reach at this moment

    def _take(self, plan: Plan, cell: Cell, round_: int, trials: Sequence[Any], pulse: Pulse, said: str = "") -> None:
        """Run one cell, unless another worker has it, and note what it came to."""
        folder = self._folder(plan, cell, trials)
        more = {CHANGES: plan.rows[cell.row].changes, ROUND: round_, KEEPS: self.runner.keep_weights}
        claim = self.study.claim(cell._asdict(), pulse, folder=str(folder.resolve()), **more)
        if claim is None:
            return
        self.claim, self.taken = claim, self.taken + 1
        if said:
            self.say(said)
        try:
            self._run(plan, cell, folder, claim)
        except BaseException as error:  # Ctrl-C too: whatever ends this worker leaves the run to the next one
            if not (claim.lost and isinstance(error, StoppedError)):
                claim.fail(**{STOPPED: True})
                raise
        finally:
            self.claim = None
        if claim.lost:
            self.runner.interrupts.asked = None  # it was asked by the pulse
            self.say(f"{name(cell)}: another worker has taken it up")

    def _run(self, plan: Plan, cell: Cell, folder: Path, claim: Claim) -> None:
        """Run a cell that is this worker's, and note what it came to, or why it failed."""
        began, self.runner.radii = time.monotonic(), plan.radii
        try:
            outcome = self.runner.run(
                self._settings(plan, cell), folder, lambda line: self.say(f"{name(cell)}: {line}")
            )
        except StoppedError as error:  # whose remedy is for a run on its own
            again = typed("regkit", "work", self.study.folder, *catalog.allowance())
            raise StoppedError(f"{name(cell)} is stopped, and saved; to go on: {again}", error.number) from None
        except (Exception, SystemExit) as error:  # a plugin may end the program
            said = str(error) if isinstance(error, RegkitError) else short(last_line(error))
            claim.fail(**{ERROR: said})
            self.say(f"{name(cell)} failed: {said}")
            return
        claim.lost = not claim.complete(outcome.value, **outcome.as_attributes())
        if not claim.lost:
            self.runner.free(folder)
            cells = set(plan.cells())
            done = sum(is_complete(trial) and cell_of(trial) in cells for trial in self.study.trials())
            spent = f"{time.monotonic() - began:.0f} s; {done} of {len(cells)} runs are finished"
            self.say(f"{name(cell)}: {_shown(outcome)}, {spent}")

    def _settings(self, plan: Plan, cell: Cell) -> Settings:
        """Build the settings of a run; trackers group the seeds of a row."""
        settings = plan.settings_of(cell)
        return settings.model_copy(update={"group": settings.group or f"{self.study.name}/{cell.row}"})

    def _folder(self, plan: Plan, cell: Cell, trials: Sequence[Any]) -> Path:
        """Find the folder in which a cell was begun, if it can be seen from here, or name a new one."""
        own = self.study.folder / RUNS / f"{plan.rows[cell.row].slug}-{cell.seed}"
        begun = (self.study.run_folder(trial) for trial in reversed(trials) if cell_of(trial) == cell)
        return own if is_run(own) else next((folder for folder in begun if folder and is_run(folder)), own)


def said_of_weights(study: Study, keep: bool) -> list[str]:
    """Say how many finished runs have kept no weights, if those are to be kept from now on.

    These are not run again.
    """
    lost = sum(is_complete(trial) and not trial.user_attrs.get(KEEPS) for trial in study.trials()) if keep else 0
    return [f"finished runs that have kept no weights: {lost}; --keep-weights is for the runs to come"] if lost else []


def _shown(outcome: Any) -> str:
    """Write the deciding scores on dev."""
    found = [
        f"{task} {metric} {scores[metric]:.3f}"
        for task, scores in outcome.scores.get("dev", {}).items()
        if (metric := outcome.mains[task][0]) in scores
    ]
    return ", ".join(found) or "no dev scores"


def name(cell: Cell) -> str:
    """Name a cell in a line that is printed."""
    return f"{cell.row}, seed {cell.seed}"
