"""What tests of studies share: a plan, a study, and a runner that trains nothing."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from regkit.experiments.draft import Draft
from regkit.experiments.plan import Plan
from regkit.experiments.rows import parse_set
from regkit.experiments.study.outcome import Outcome
from regkit.experiments.study.study import PLAN, ROUND, Study
from regkit.runs.interrupts import Interrupts
from regkit.runs.lock import Say
from regkit.runs.settings import Settings


def plan_of(*sets: str, seeds: int = 3) -> Plan:
    """Rows of these sets, and a plain one."""
    return Plan.of(Draft(Settings(), sets=[parse_set(each) for each in sets], seeds=range(seeds)))


def begin(folder: Path, plan: Plan, address: str = "") -> Study:
    """A study that has its plan, in a journal, which is made in no time, or in another storage."""
    folder.mkdir(exist_ok=True)
    study = Study.create("study", folder, address or f"journal:{folder.resolve()}/journal.log")
    study.note(**{PLAN: plan.as_values(), ROUND: int(study.attributes().get(ROUND, 0)) + 1})
    return study


def again(study: Study) -> Study:
    """The same study, as another worker opens it."""
    return Study.open(study.name, study.folder, study.address)


@dataclass
class FakeRunner:
    """Notes what it is asked to run; the score is the seed."""

    ran: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: dict[str, Exception] = field(default_factory=dict)  # by the row's plugin: what its runs raise
    takes: float = 0.0  # seconds
    keep_weights: bool = False
    robust: bool = False
    freed: list[Path] = field(default_factory=list)
    interrupts: Interrupts = field(default_factory=Interrupts)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, settings: Settings, folder: Path, say: Say) -> Outcome:
        row = "+".join(settings.plugins) or "plain"
        with self.lock:
            self.ran[row, settings.seed] += 1
        time.sleep(self.takes)
        if error := self.wrong.get(row):
            raise error
        scores = {"t": {"accuracy": float(settings.seed)}}
        return Outcome({"dev": scores}, {"t": ("accuracy", False)}, seconds=1.0, operations=1.0)

    def free(self, folder: Path) -> None:
        self.freed.append(folder)
