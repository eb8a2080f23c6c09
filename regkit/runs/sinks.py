"""Sinks: write what a recorder gives - into the run's folder in the first process, else nowhere."""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from regkit.base.files import follow, point, write
from regkit.hooks.following import flatten
from regkit.hooks.spec import Ending
from regkit.runs import checkpoint, environment, manifest
from regkit.runs.disk import older_states
from regkit.runs.experiment import Experiment
from regkit.runs.finished import declared, digests
from regkit.runs.folders import (
    CHECKPOINT,
    CONFIG,
    ENVIRONMENT,
    FINISHED,
    LATEST,
    LOG,
    RUNS,
    TASKS,
    forget_latest,
    is_unsaved,
    new_folder,
    note_latest,
)
from regkit.runs.log import Log, cut
from regkit.runs.resumable import FolderState, Resumable, leftovers
from regkit.runs.resume import fingerprints

TOLD_NO_MORE = "Training goes on, and this plugin is told no more of it."


class Sink:
    """Writes nothing. Every process's recorder calls the same verbs in the same order.

    The first process has a sink that writes, so the processes cannot drift apart.
    """

    folder: Path | None = None  # where it writes, once it has begun

    def begin(self) -> None:
        """Make the run's folder, or bring it back to the moment of the checkpoint from which the run goes on."""
        return

    def rehearse(self) -> None:
        """Try in memory what `save` will write, and read it back: what cannot be kept is refused early."""
        return

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        return

    def log_update(self, record: Mapping[str, Any]) -> None:
        """Append the line of an update to the log, later and with others: its tensors may be on a GPU."""
        return

    def save(self, name: str, records: FolderState) -> None:
        """Write a checkpoint of this moment, point `last` to it, and remove those that are not kept."""
        return

    def best(self, name: str) -> None:
        """Point `best` to this checkpoint."""
        return

    def write(self, name: str, value: object) -> None:
        """Write a JSON file."""
        return

    def lines(self) -> list[dict[str, Any]]:
        """Read every line of the log."""
        return []

    def finish(self, note: object) -> None:
        """Write that nothing is left to do, and free the training state that only a run that goes on needs."""
        return

    def close(self, state: Ending) -> None:
        """Tell plugins how the run ended, and unlock the folder."""
        return


@dataclass
class FolderSink(Sink):
    """Writes the run's folder, which `begin` makes: a run that is refused before it trains leaves none."""

    experiment: Experiment
    output: Path | None = None  # the folder; None: a new one in runs/
    resumable: Resumable | None = None  # the run to go on with
    say: Callable[[str], None] = lambda line: None  # prints what the user must know
    latest: bool = True  # runs/latest leads to it
    folder: Path | None = None
    held: list[IO[str]] = field(default_factory=list)  # the folder's lock
    begun: bool = False  # whether plugins were told that the run begins
    before: Path = RUNS / LATEST  # the run to which runs/latest led, if to any

    def begin(self) -> None:
        if self.resumable:
            self._go_on(self.resumable)
        else:
            self._begin_anew()
        settings = flatten(self.experiment.settings.model_dump(mode="json", exclude_none=True), ".")
        records = self._log.records() if self.resumable else []
        told = {"folder": self.folder, "settings": settings, "updates": self._log.updates, "records": records}
        try:
            self._tell("begin_run", goes_on=self.resumable is not None, **told)
        except BaseException:
            self._leave_nothing()
            raise
        self.begun = True
        self.before = follow(RUNS / LATEST).resolve()
        self._note_latest()

    def _begin_anew(self) -> None:
        folder, lock = new_folder(self.experiment.settings, self.output, self.say)
        self.held.append(lock)
        write(folder / ENVIRONMENT, json.dumps(self._environment, indent=2))
        tasks = self.experiment.tasks
        forms = {
            name: [*form, digests(task)] for task, (name, form) in zip(tasks, declared(tasks).items(), strict=True)
        }
        write(folder / TASKS, json.dumps(forms, indent=2))
        write(folder / CONFIG, self.experiment.settings.toml())  # the last: with it, the run has begun
        self.folder = folder

    def _leave_nothing(self) -> None:
        """Remove the folder of a run without any update, unless it is one that went on."""
        if self.folder and not self.resumable:
            with suppress(OSError):
                forget_latest(self.folder, self.before)
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _go_on(self, resumable: Resumable) -> None:
        folder, records = resumable.folder, resumable.records
        newest = manifest.settle(resumable.checkpoint) if resumable.checkpoint else None
        for path in leftovers(folder):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.folder = folder
        if newest:
            if different := environment.changed(folder / ENVIRONMENT, self._environment):
                names = ", ".join(different)
                self.say(f"no longer as when the run began: {names}; the last digits of its numbers may differ")
            point(folder / "last", newest)
            if records.keeping.best:
                self.best(records.keeping.best)
            self.write("scores.json", records.keeping.report())
        cut(folder / LOG, records.log)

    def _note_latest(self) -> None:
        if self.latest and self.folder:
            note_latest(self.folder, self.say)

    def rehearse(self) -> None:
        checkpoint.rehearse(self.experiment.trainer.state)

    def log(self, record: Mapping[str, Any]) -> None:
        self._log.write(record)

    def log_update(self, record: Mapping[str, Any]) -> None:
        self._log.update(record)

    def save(self, name: str, records: FolderState) -> None:
        model, training = checkpoint.moment(self.experiment.trainer.state)
        records.log, records.data = self._log.flushed(), self._data
        folder = self._inside("checkpoints") / name
        checkpoint.save(folder, model, self.experiment.tokenizer, {**training, "run": asdict(records)})
        point(self._inside("last"), folder)
        for other in folder.parent.iterdir():
            if other.is_dir() and CHECKPOINT.fullmatch(other.name) and other.name not in records.keeping.kept():
                shutil.rmtree(other)

    def best(self, name: str) -> None:
        point(self._inside("best"), self._inside("checkpoints") / Path(name).name)

    def write(self, name: str, value: object) -> None:
        write(self._inside(name), json.dumps(value, indent=2))

    def lines(self) -> list[dict[str, Any]]:
        return self._log.records()

    def finish(self, note: object) -> None:
        self.write(FINISHED, note)
        if self.folder and not self.experiment.settings.keep_state:
            try:
                older_states(self.folder).free()
            except OSError as error:  # the run is finished all the same
                self.say(f"training state was left in {self.folder}: {error.strerror}; `regkit clean` removes it")

    def close(self, state: Ending) -> None:
        try:
            if self.begun:
                with suppress(Exception):  # the error that ended the run is the one to tell
                    self._log.flushed()
                self._tell("end_run", state=state)
            if self.begun and state == "failed" and self.folder and not self._log.updates and is_unsaved(self.folder):
                self._leave_nothing()
        finally:
            while self.held:
                self.held.pop().close()

    def _tell(self, hook: str, *, goes_on: bool = True, **given: Any) -> None:
        """Tell plugins that follow the run, and say which of them failed.

        A run is worth more than what follows it.
        """
        for sentence in self.experiment.composition.tell(hook, goes_on=goes_on, **given):
            after = "Nothing else of the run is lost." if hook == "end_run" else TOLD_NO_MORE
            self.say(f"{sentence} {after}")

    def _inside(self, name: str) -> Path:
        assert self.folder is not None  # it has begun
        return self.folder / name

    @cached_property
    def _log(self) -> Log:
        return Log(self._inside(LOG), lambda records: self._tell("logged", records=records))

    @cached_property
    def _data(self) -> dict[str, str]:
        return fingerprints(self.experiment.tasks)

    @cached_property
    def _environment(self) -> dict[str, Any]:
        found = environment.present(self.experiment.trainer.streams.device, self.experiment.settings.plugins)
        examples = {
            task.name: {split: len(each) for split, each in task.splits.items()} for task in self.experiment.tasks
        }
        return {**found, "examples": examples}
