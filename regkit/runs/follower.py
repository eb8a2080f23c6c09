"""Follower: what the other processes of a run do where the first one records - nothing, but it together with the first."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from regkit.base.errors import StoppedError
from regkit.hooks.spec import hookimpl
from regkit.model import MultitaskModel
from regkit.runs.experiment import Experiment
from regkit.runs.interrupts import Interrupts
from regkit.tasks.task import Task
from regkit.training import suspects
from regkit.training.effects import Meter


@dataclass
class Follower:
    """An observer that takes part in whatever the first process's `Recorder` asks of all of them, in the same order."""

    experiment: Experiment
    meter: Meter
    interrupts: Interrupts

    def __post_init__(self) -> None:
        self.experiment.trainer.between = self._stop_if_asked

    @hookimpl(wrapper=True)
    def choose_tasks(self) -> Generator[None, Sequence[Task], Sequence[Task]]:
        self._contribute()
        return (yield)

    @hookimpl(trylast=True)
    def after_step(self) -> None:
        self.meter.finish()
        self._stop_if_asked()

    @hookimpl(wrapper=True)
    def skipped(self, model: MultitaskModel, recompute: Callable[[], None]) -> Generator[None, None, None]:
        self.meter.finish()
        suspects.find(self.experiment.composition, model, recompute, self.experiment.trainer.processes)
        yield
        self._stop_if_asked()

    @hookimpl(trylast=True)
    def evaluated(self, step: int) -> None:
        if step and self.experiment.trainer.processes.sharded:
            self.experiment.trainer.snapshot()
        self._stop_if_asked()

    def _contribute(self) -> None:
        """To a checkpoint, where one is to be written and the weights are in parts."""
        if self.experiment.trainer.processes.joins(False):
            self.experiment.trainer.snapshot()

    def _stop_if_asked(self) -> None:
        if asked := self.interrupts.agreed(self.experiment.trainer.processes):
            self._contribute()
            raise StoppedError("", asked)  # the first process says it
