"""Reading: find the runs and studies that a page shows, and where it is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regkit.base.errors import RunError
from regkit.base.files import follow
from regkit.page.reading.studies import is_study
from regkit.runs.folders import RUNS
from regkit.runs.listing import Run, find_runs


@dataclass(frozen=True)
class Found:
    """What a page is about."""

    studies: Sequence[Path]
    runs: Sequence[Run]

    def runs_of(self, study: Path) -> list[Run]:
        """List the runs in a study's folder."""
        return [run for run in self.runs if _is_in(run, study)]

    @property
    def others(self) -> list[Run]:
        """The runs that are in no study's folder."""
        return [run for run in self.runs if not any(_is_in(run, study) for study in self.studies)]


def _is_in(run: Run, study: Path) -> bool:
    return follow(study).resolve() in follow(run.folder).resolve().parents


def find(paths: Sequence[Path]) -> Found:
    """Find the runs and studies that these paths are or contain; without paths, those in `runs/`.

    Raises RunError for a path that is neither, and if there is nothing to show.
    """
    runs = find_runs(paths)
    folders = [follow(path) for path in paths or [RUNS]]
    inside = [each for folder in folders if folder.is_dir() for each in (folder, *sorted(folder.iterdir()))]
    studies = list({study.resolve(): study for study in inside if not study.is_symlink() and is_study(study)}.values())
    if not runs and not studies:
        where = " or ".join(map(str, paths or [RUNS]))
        raise RunError(f"there is no run and no study in {where}; `regkit train` makes a run, `regkit ablate` a study.")
    return Found(studies, runs)
