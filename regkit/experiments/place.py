"""Place: where a study is - its name, its folder, and its file `study.toml`."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from regkit.base.errors import ConfigError, RegkitError, RunError, nearest, typed
from regkit.base.files import read_toml, write
from regkit.experiments.plan import WITHOUT_RESULT, Plan
from regkit.experiments.search.search import Search
from regkit.experiments.study import storage as storages
from regkit.experiments.study.study import Study
from regkit.runs.folders import RUNS, STUDY, check_free, is_run
from regkit.runs.settings import Settings

LOCK = "study.lock"
BEGINNING = {LOCK, storages.DATABASE, f"{storages.DATABASE}-journal"}  # what is there before its file


@dataclass(frozen=True)
class Place:
    """Where a study is."""

    folder: Path
    storage: str | None = None  # as it was given; None: SQLite in the folder

    @property
    def name(self) -> str:
        """The study's name in its storage."""
        return self.folder.resolve().name

    @property
    def address(self) -> str:
        """The address of the storage in full."""
        return storages.resolve(self.storage, self.folder)

    @property
    def shown(self) -> str:
        """The address of the storage, without a password."""
        return storages.without_password(self.address)

    @property
    def has_begun(self) -> bool:
        """Whether there is a study."""
        return (self.folder / STUDY).is_file()

    def study(self) -> Study | None:
        """Find the study in its storage; None where it has yet to begin.

        Raises RunError where it has begun and is missing there: a renamed folder must not look like a new study.
        """
        if self.storage and self.has_begun:
            return Study.open(self.name, self.folder, self.address)
        return Study.find(self.name, self.folder, self.address)

    def begin(self) -> Study:
        """Find the study in its storage, or make it."""
        return self.study() or Study.create(self.name, self.folder, self.address)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other commands on this machine from the study's folder.

        One that fails inside leaves no new folder.
        """
        new = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / LOCK):
                yield
        except RegkitError:
            if new:
                (self.folder / LOCK).unlink(missing_ok=True)
                with suppress(OSError):  # another command has begun there
                    self.folder.rmdir()
            raise

    def write(self, plan: Plan | Search) -> None:
        """Write `study.toml`: what is run, and where it is noted. A password is left out."""
        self.folder.mkdir(parents=True, exist_ok=True)
        more = {"storage": self.shown} if self.storage else {}
        write(self.folder / STUDY, plan.toml(**more))


def new_place(
    output: Path | None, config: Path | None, settings: Settings, storage: str | None, kind: str = "ablation"
) -> Place:
    """Choose the folder of a study.

    It is `output`, or one in runs/ called after the file, or else after the settings. So the same command finds its
    study again. Raises RunError where something else is there.
    """
    own = config.parent if config and config.name == STUDY else None  # the file of a study is where it is
    folder = output or own or RUNS / (config.stem if config else f"{kind}-{_fingerprint(settings)}")
    if is_run(folder):
        raise RunError(f"{folder} is a run, and no study; name another --output.")
    if not Place(folder).has_begun:
        if not _is_beginning(folder):
            check_free(folder)
        return Place(folder, storage)
    return Place(folder, storage or _noted(folder))


def _is_beginning(folder: Path) -> bool:
    """Whether a folder holds only what a study leaves that was stopped before its file was there."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return LOCK in names and names <= BEGINNING


def find_place(study: Path, storage: str | None) -> Place:
    """Find a study by its folder, its file, or its name in `runs/` or in a storage. Raises RunError."""
    study = study.parent if study.name == STUDY else study
    for folder in (study, RUNS / study):
        if (folder / STUDY).is_file():
            return Place(folder, storage or _noted(folder))
    if storage:
        return Place(study if len(study.parts) > 1 else RUNS / study, storage)
    others = [path.parent.name for path in RUNS.glob(f"*/{STUDY}")]
    remedy = typed("regkit", "work", study, "--storage", "URL")
    raise RunError(
        f"there is no study {study} here; one in a storage is named by {remedy}. {nearest(study.name, others)}"
    )


def _noted(folder: Path) -> str | None:
    """Read the storage that a study's file notes."""
    try:
        found = read_toml(folder / STUDY).get("storage")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / STUDY} cannot be read: {error}.") from None
    return found if isinstance(found, str) else None


def _fingerprint(settings: Settings) -> str:
    found = settings.model_dump_json(exclude={*WITHOUT_RESULT, "seed"})
    return hashlib.sha256(found.encode()).hexdigest()[:6]


def threads(jobs: int) -> dict[str, str]:
    """Divide the processor among workers, unless the user has done it: environment variables of each."""
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, here // jobs))}
