"""Recorder: decide when a run is saved, judged, logged and stopped; a sink writes it."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from regkit.base.errors import ApartError, RegkitError, RunError, StoppedError
from regkit.base.failures import last_line
from regkit.hooks.spec import Losses, hookimpl
from regkit.model import MultitaskModel
from regkit.runs.experiment import Experiment
from regkit.runs.going_on import how_to_go_on, with_what_code
from regkit.runs.interrupts import Interrupts
from regkit.runs.keeping import Keeping, monitored
from regkit.runs.resumable import FolderState, Resumable
from regkit.runs.sinks import Sink
from regkit.tasks.task import Stage, Task
from regkit.training import suspects
from regkit.training.effects import Meter, summary, warnings
from regkit.training.evaluation import Scores
from regkit.training.stages import collect_stages

FEW = 10  # examples of a sample: fewer have a loss, but two points always correlate


@dataclass
class Recorder:
    """An observer that records a run. There is one in every process: some things all do together."""

    experiment: Experiment
    meter: Meter
    sink: Sink
    interrupts: Interrupts = field(default_factory=Interrupts)
    resumable: Resumable | None = None  # the run to go on with
    say: Callable[[str], None] = lambda line: None  # prints what the user must know
    keeping: Keeping = field(default_factory=Keeping)
    stage: str = ""
    rate: float = 0.0
    told: int = 0  # sentences about plugins that were said
    micro_batch_tokens: int | None = None  # as it was last said
    saved: tuple[str, int] = ("", 0)  # stage and step of the newest checkpoint
    saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.trainer, self.state = self.experiment.trainer, self.experiment.trainer.state
        self.trainer.evaluator.between = self._stop_if_asked
        self.trainer.sampled = self.sampled
        if self.resumable and self.resumable.checkpoint:
            records, position = self.resumable.records, self.state.position
            self.keeping, self.stage = records.keeping, records.stage
            self.saved, self.micro_batch_tokens = (self.stage, position.step), position.micro_batch_tokens
            self.experiment.composition.owners.update(records.owners)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        stopped = isinstance(error, StoppedError | KeyboardInterrupt)
        self.sink.close("stopped" if stopped else "failed" if error else "finished")

    @hookimpl(wrapper=True)
    def choose_tasks(self, step: int) -> Generator[None, Sequence[Task], Sequence[Task]]:
        """Save here if it is time: a step begins and nothing of it is done."""
        self._begin()
        self._tell_micro_batches()
        settings = self.experiment.settings
        by_steps = settings.save_steps and step % settings.save_steps == 0
        by_clock = settings.save_minutes and time.monotonic() - self.saved_at >= 60 * settings.save_minutes
        if by_steps or by_clock:
            self._save_once()
        return (yield)

    @hookimpl(trylast=True)
    def before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.rate = optimizer.param_groups[0]["lr"]

    @hookimpl(trylast=True)
    def after_step(self, step: int, losses: Losses) -> None:
        record = {"stage": self.stage, "step": step, "learning_rate": self.rate}
        record |= {"gradient_norm": self.trainer.gradient_norm, "losses": losses}
        effects = self.meter.finish()
        self.sink.log_update(record | ({"effects": effects} if effects else {}))
        self._tell_noticed()
        if not step:
            self.sink.rehearse()  # once more: some keep nothing before they have learned something
        self._stop_if_asked()

    @hookimpl(wrapper=True)
    def skipped(self, model: MultitaskModel, step: int, recompute: Callable[[], None]) -> Generator[None, None, None]:
        """Search for the cause before the plugins are told, and stop after, if asked."""
        self.meter.finish()  # of numbers that are not finite
        found = suspects.find_suspects(self.experiment.composition, model, recompute, self.trainer.processes)
        self.sink.log({"stage": self.stage, "step": step, "skipped": [asdict(suspect) for suspect in found]})
        self.say(f"step {step + 1} is skipped: {'; '.join(map(str, found))}")
        yield
        self._stop_if_asked()

    def sampled(self, stage: Stage, scores: Scores, examples: Mapping[str, int]) -> None:
        """Log and say the scores of a sample, before the first update, under a name of their own."""
        self.sink.rehearse()
        self._begin()
        self._tell_micro_batches()
        self.sink.log({"stage": stage.name, "step": 0, "sample": {"dev": scores}, "examples": {"dev": examples}})
        self.say(
            f"{stage.name}, before training: a sample of dev, for at most 2 % of training; --score-first scores all"
        )
        for task in self.trainer.tasks:
            if task.name in scores:
                count = examples[task.name]
                told = {name: value for name, value in scores[task.name].items() if count >= FEW or name == "loss"}
                shown = ", ".join(f"{name} {value:.3f}" for name, value in told.items())
                self.say(f"  {task.name}, {count} of {len(task.splits['dev'])}: {shown}")
        self._stop_if_asked()

    @hookimpl(trylast=True)
    def evaluated(self, stage: Stage, step: int, scores: Scores) -> None:
        settings = self.experiment.settings
        if not step:
            self.sink.rehearse()
        value = monitored(settings.monitor, stage, self.experiment.tasks, scores)
        self._begin()
        self._tell_micro_batches()
        self.sink.log({"stage": stage.name, "step": step, "scores": {"dev": scores}})
        if step:
            name = f"{stage.name}-{step}"
            better = self.keeping.judge(stage.name, name, value, scores, self.trainer.evaluator.caveats)
            if not math.isfinite(value):
                self.say(
                    f"{settings.monitor} is not finite after step {step}: any checkpoint with a finite one is better"
                )
            if settings.patience and self.keeping.since >= settings.patience:
                self.state.position.ended = True
                self.say(f"stage {stage.name} ends at step {step}: no better score in {settings.patience} evaluations")
            self.save()
            if better:
                self.sink.best(name)
                self.sink.write("scores.json", self.keeping.report())
            self._tell_noticed()
            self.sink.write("effects.json", self.effects())
        self._stop_if_asked()

    def save(self) -> None:
        """Save a checkpoint of this very moment. Raises RunError where a number in it is not finite."""
        settings, step = self.experiment.settings, self.state.position.step
        name = f"{self.stage}-{step}"
        self.keeping.note(name, settings.keep)
        state = FolderState(
            self.stage,
            keeping=self.keeping,
            owners=self.experiment.composition.owners,
            processes=self.trainer.processes.count,
            memory=settings.memory,
        )
        self.sink.save(name, state)
        self.saved, self.saved_at = (self.stage, step), time.monotonic()

    @contextmanager
    def rescuing(self) -> Iterator[None]:
        """After an error inside, save what can be saved and let the error say how to go on."""
        try:
            yield
        except (StoppedError, ApartError):
            raise
        except RegkitError as error:
            error.remedy = self.rescue()
            raise
        except OSError as error:
            raise RunError(f"{error.filename or 'writing'}: {error.strerror or error}.", self.rescue()) from error
        except Exception as error:
            if not (self.resumable and self.resumable.stands_at(self.state.position.step)):
                raise
            # The state of the checkpoint was used for the first time.
            where = f"the checkpoint {self.resumable.checkpoint} cannot be resumed from"
            raise RunError(f"{where}: {last_line(error)}.") from error

    def rescue(self) -> str:
        """Save what can be saved after an error, and say how to go on; nothing before training began."""
        if not self.sink.folder:
            return ""
        if self.state.consistent:
            with suppress(RegkitError, OSError):  # the first error is the one to tell
                self._save_once()
        if not (self.sink.folder / "last").exists():
            return "Nothing was saved yet, so the same command begins anew."
        settings, (stage, step) = self.experiment.settings, self.saved
        return (
            f"What was done until step {step} of stage {stage} is saved{with_what_code(settings)}; "
            f"{how_to_go_on(settings, self.sink.folder)}"
        )

    def finish(self) -> None:
        """Note that there is nothing left to do."""
        self._open()  # there was nothing to do for a run that was stopped at its very end
        self.sink.finish({"stage": self.stage, "step": self.state.position.step})

    def effects(self) -> dict[str, Any]:
        """Sum up what the plugins did and took over the whole log, with warnings."""
        records = self.sink.lines()
        found = summary([record["effects"] for record in records if "effects" in record])
        said = warnings(found, self.experiment.composition) + self.experiment.composition.watch.said
        said += self.keeping.caveats
        if skipped := sum("skipped" in record for record in records):
            said.append(f"{skipped} steps were skipped: a number was not finite; log.jsonl names tasks and rows.")
        return {**found, "unmeasured": self._unmeasured(records), "warnings": said + self._untrained(records)}

    def _unmeasured(self, records: Sequence[dict[str, Any]]) -> list[str]:
        """List the tasks that were trained with plugins, and on which nothing was measured.

        They gave few batches. Where nobody wants to measure, there is nothing to say.
        """
        if not (self.experiment.settings.measure_every and self.experiment.composition.in_steps()):
            return []
        trained = dict.fromkeys(task for record in records for task in record.get("losses", ()))
        effects = [record["effects"] for record in records if "effects" in record]
        measured = {task for each in effects for task in each["terms"]}
        measured |= {task for each in effects for pair in each["cosines"] for task in pair.split(" and ")}
        return [task for task in trained if task not in measured]

    def _untrained(self, records: Sequence[dict[str, Any]]) -> list[str]:
        """Write a sentence for each stage that has trained, but has left out some of its tasks."""
        trained = defaultdict[str, set[str]](set)
        for record in records:
            trained[record["stage"]].update(record.get("losses", ()))
        said = []
        for stage, tasks in collect_stages(self.trainer.hook, self.trainer.tasks):
            left_out = [task.name for task in tasks if task.name not in trained[stage.name]]
            if left_out and trained[stage.name]:
                schedulers = self.experiment.composition.deciders("choose_tasks")
                why = (
                    f"as plugin '{schedulers[0]}' chose"
                    if schedulers
                    else "a scheduler such as 'rrobin' gives every task its turns"
                )
                said.append(
                    f"stage '{stage.name}' made no update for {' and '.join(left_out)}, which it only scored; {why}."
                )
        return said

    def _begin(self) -> None:
        """Note the stage; when training begins, and nothing can be refused any more, open the sink."""
        self.stage = str(self.trainer.streams.place[0])
        self._open()

    def _open(self) -> None:
        if not self.sink.folder:
            self.sink.begin()

    def _save_once(self) -> None:
        """Save, unless nothing was done yet or this step is saved already."""
        step = self.state.position.step
        if step and self.saved != (self.stage, step):
            self.save()

    def _tell_micro_batches(self) -> None:
        """Say and log, once, what size of micro-batches was found to fit.

        A new stage begins with that of the settings.
        """
        step, tokens = self.state.position.step, self.state.position.micro_batch_tokens
        if tokens and tokens != self.micro_batch_tokens:
            self.sink.log({"stage": self.stage, "step": step, "micro_batch_tokens": tokens})
            self.say(f"from step {step + 1} on, micro-batches have at most {tokens} tokens, to fit in memory")
        self.micro_batch_tokens = tokens

    def _tell_noticed(self) -> None:
        """Say, once, what was noticed of plugins and is no reason to stop."""
        said = self.experiment.composition.watch.said
        for sentence in said[self.told :]:
            self.say(f"warning: {sentence}")
        self.told = len(said)

    def _stop_if_asked(self) -> None:
        """Save and stop all processes after the same step, where a signal came to one of them."""
        if asked := self.interrupts.agreed(self.trainer.processes):
            self._begin()
            self._save_once()
            where = f"after step {self.state.position.step} of stage {self.stage}"
            how = how_to_go_on(self.experiment.settings, self.sink.folder) if self.sink.folder else ""
            raise StoppedError(
                f"stopped by {asked.name} {where}; {how}" if how else "", asked
            )  # the first process says it
