"""Study: many runs in one storage that workers on any machine share, so that each is done once.

A worker announces a trial, then looks: numbers are given in order by every storage, so of several workers that want the
same the one with the lowest number has it, and the others withdraw.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regkit.base.errors import RunError, nearest
from regkit.experiments.study import storage as storages
from regkit.experiments.study.alive import WORKERS, Pulse, Watch

RUNS = "runs"  # a folder in that of a study
PLAN, ROUND, UNTIL = "plan", "round", "until"  # attributes of a study; the last is the end of a race
GIVEN = "given"  # attribute of a study: digests of its data and encoders
CHANGES = "changes"  # attribute of a trial: what its row changes
ERROR, DEAD, STOPPED, WITHDRAWN = "error", "dead", "stopped", "withdrawn"  # attributes of a trial: why it has failed


@dataclass
class Study:
    """A study in its storage. Raises RunError where the storage is out of reach."""

    name: str
    folder: Path
    address: str  # of the storage, in full
    storage: Any = None  # optuna's
    number: int = 0  # of the study in its storage
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        self.watch.folder = self.folder / WORKERS

    @classmethod
    def find(cls, name: str, folder: Path, address: str) -> "Study | None":
        """Find a study in its storage; None where there is none of this name. Raises RunError.

        A storage in the study's own folder has no other one, so there it is found whatever the folder was called before.
        """
        storages.check_installed()
        if not storages.is_there(address):
            return None
        study = cls(name, folder, address, storages.connect(address))
        with study.reaching():
            known = {found.study_name: found._study_id for found in study.storage.get_all_studies()}
        if name not in known and len(known) == 1 and address == storages.resolve(None, folder):
            (study.name,) = known
        if study.name not in known:
            return None
        study.number = known[study.name]
        return study

    @classmethod
    def create(cls, name: str, folder: Path, address: str) -> "Study":
        """Make a study in its storage, or find it where another process was a moment earlier. Raises RunError."""
        import optuna

        study = cls(name, folder, address, storages.connect(address))
        with study.reaching():
            try:
                study.number = study.storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], name)
            except optuna.exceptions.DuplicatedStudyError:
                study.number = study.storage.get_study_id_from_name(name)
        return study

    @classmethod
    def open(cls, name: str, folder: Path, address: str) -> "Study":
        """Find a study that must be there. Raises RunError, which lists the studies of the storage."""
        if found := cls.find(name, folder, address):
            return found
        shown = storages.without_password(address)
        if not storages.is_there(address):
            raise RunError(f"storage {shown} does not exist: no study has begun there.")
        names = [found.study_name for found in storages.connect(address).get_all_studies()]
        raise RunError(
            f"storage {shown} has no study '{name}', which is called after its folder. {nearest(name, names)}"
        )

    def close(self) -> None:
        """Close the connections to the storage."""
        self.storage.remove_session()
        if engine := getattr(self.storage, "engine", None):  # a journal has none
            engine.dispose()

    @property
    def shown(self) -> str:
        """The storage's address, without a password."""
        return storages.without_password(self.address)

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Turn errors of the storage into one sentence."""
        with storages.reaching(self.address):
            yield

    def attributes(self) -> dict[str, Any]:
        """Read what is noted of the study as a whole: its plan."""
        with self.reaching():
            return dict(self.storage.get_study_user_attrs(self.number))

    def note(self, **values: Any) -> None:
        """Note something of the study as a whole."""
        with self.reaching():
            for key, value in values.items():
                self.storage.set_study_user_attr(self.number, key, value)

    def trials(self) -> list[Any]:
        """List all trials, in order, as optuna has them."""
        with self.reaching():
            return list(self.storage.get_all_trials(self.number, deepcopy=False))

    def run_folder(self, trial: Any) -> Path | None:
        """Find the folder of a trial's run: in the study's folder of today, or where it was begun."""
        noted = trial.user_attrs.get("folder")
        if noted is None:
            return None
        own = self.folder / RUNS / Path(noted).name
        return own if own.is_dir() else Path(noted)

    def claim(self, key: Mapping[str, Any], pulse: Pulse, **more: Any) -> "Claim | None":
        """Take what this key names, and nobody else has: announce a trial of it, and withdraw if it was taken.

        `more` are further attributes of the trial.
        """
        import optuna

        announced = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, user_attrs={**key, **more, **pulse.attributes}
        )
        with self.reaching():
            claim = Claim(self, self.storage.create_new_trial(self.number, announced))
            number = self.storage.get_trial_number_from_id(claim.id)
        if any(trial.number < number and self.is_taken(trial) for trial in self.trials() if has(trial, key)):
            claim.fail(**{WITHDRAWN: True})
            return None
        return claim

    def is_taken(self, trial: Any) -> bool:
        """Whether a trial is done, or a worker that may live has it."""
        return is_complete(trial) or (is_running(trial) and self.verdict(trial) != "dead")

    def verdict(self, trial: Any) -> str:
        """Tell whether the worker of a running trial is alive, dead or not known yet."""
        return self.watch.judge(trial.number, trial.user_attrs)

    def bury(self, trials: Iterable[Any]) -> list[Any]:
        """Let the running trials of dead workers have failed, so that they can be taken up. Returns them."""
        dead = [trial for trial in trials if is_running(trial) and self.verdict(trial) == "dead"]
        for trial in dead:
            Claim(self, trial._trial_id).fail(**{DEAD: True})
            if lock := self.watch.lock_of(trial.user_attrs):
                lock.unlink(missing_ok=True)
        return dead


@dataclass
class Claim:
    """A trial that this worker has."""

    study: Study
    id: int
    lost: bool = False  # another worker held this one for dead, and has taken it up
    ended: bool = False  # by this worker

    def set(self, **values: Any) -> bool:
        """Set attributes. False where the trial has ended: another worker held this one for dead."""
        import optuna

        try:
            with self.study.reaching():
                for key, value in values.items():
                    self.study.storage.set_trial_user_attr(self.id, key, value)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        return True

    def complete(self, value: float, **attributes: Any) -> bool:
        """End the trial with its value and what it came to. False where it has ended before."""
        return self.set(**attributes) and self._end("COMPLETE", [value])

    def fail(self, **attributes: Any) -> bool:
        """End the trial without a value; attributes say why. False where it has ended before."""
        return self.set(**attributes) and self._end("FAIL", None)

    def _end(self, state: str, values: list[float] | None) -> bool:
        import optuna

        self.ended = True  # before it is in the storage: the pulse looks there from its thread
        try:
            with self.study.reaching():
                ended = self.study.storage.set_trial_state_values(self.id, optuna.trial.TrialState[state], values)
                return bool(ended)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False


def has(trial: Any, key: Mapping[str, Any]) -> bool:
    """Whether a trial is one of what the key names."""
    return all(trial.user_attrs.get(name) == value for name, value in key.items())


def is_running(trial: Any) -> bool:
    """Whether a trial has not ended, whether or not its worker lives."""
    return bool(trial.state.name == "RUNNING")


def is_complete(trial: Any) -> bool:
    """Whether a trial ended well."""
    return bool(trial.state.name == "COMPLETE")
