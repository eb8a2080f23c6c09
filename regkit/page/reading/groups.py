"""Groups: put runs together that differ in their seed alone, and name what sets the groups apart."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from regkit.base.errors import RegkitError
from regkit.base.files import follow, read_object
from regkit.hooks import catalog
from regkit.page.charts.scales import is_number
from regkit.page.reading.logs import Log, read_log
from regkit.runs.folders import LOG
from regkit.runs.listing import Run, flat
from regkit.tasks.scores import SCORES

APART = {
    "seed",
    "group",
    "device",
    "keep",
    "keep_state",
    "save_steps",
    "save_minutes",
}  # settings that set no group apart
LOWER = {name for scores in SCORES.values() for name, metric in scores.items() if metric.lower_is_better}
SHOWN = 3  # settings in the name of a group


@dataclass(frozen=True)
class Shown:
    """A run with what its folder says, each file read when it is needed."""

    run: Run
    name: str

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return follow(self.run.folder)

    @cached_property
    def log(self) -> Log:
        """The series of its log."""
        return read_log(self.folder / LOG)

    @cached_property
    def effects(self) -> dict[str, Any]:
        """What its plugins did, summed up; nothing before the first evaluation."""
        return read_object(self.folder / "effects.json")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its settings by name, without plugins that only follow a run: they change nothing of it."""
        acting = [name for name in self.run.plugins if not _only_follows(name)]
        trackers = tuple(f"{name}:" for name in self.run.plugins if name not in acting)
        found = {name: value for name, value in flat(self.run).items() if not name.startswith(trackers)}
        return found | {"plugins": ", ".join(acting)}

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """The dev scores of its best checkpoint, by task; what is no number is left out."""
        return {
            task: {name: value for name, value in scores.items() if is_number(value)}
            for task, scores in self.run.scores.items()
        }

    def score(self, task: str, name: str) -> float:
        """One of these scores; NaN without it."""
        return self.scores.get(task, {}).get(name, float("nan"))

    @property
    def main_scores(self) -> dict[str, tuple[str, float]]:
        """The first score of each task, with its name."""
        return {task: next(iter(scores.items())) for task, scores in self.scores.items() if scores}


@cache
def _only_follows(plugin: str) -> bool:
    """Whether a plugin only follows a run, as far as it is installed here: the run may be from elsewhere."""
    with suppress(RegkitError):
        return catalog.only_follows(plugin)
    return False


@dataclass(frozen=True)
class Group:
    """Runs of the same settings."""

    name: str
    runs: Sequence[Shown]

    @property
    def score(self) -> float:
        """The mean of all first scores, more being better, to rank groups by; minus infinity without any."""
        mains = [main for run in self.runs for main in run.main_scores.values()]
        found = [-value if name in LOWER else value for name, value in mains]
        return fmean(found) if found else -float("inf")


def all_runs(groups: Sequence[Group]) -> list[Shown]:
    """List the runs of groups."""
    return [run for group in groups for run in group.runs]


def several(groups: Sequence[Group]) -> bool:
    """Whether there is more than one run."""
    return len(all_runs(groups)) > 1


def shown(runs: Sequence[Run]) -> list[Shown]:
    """Name each run by its folder, or by its path where two folders have the same name."""
    names = [run.folder.absolute().name for run in runs]
    unique = len(set(names)) == len(names)
    return [Shown(run, name if unique else str(run.folder)) for run, name in zip(runs, names, strict=True)]


def grouped(runs: Sequence[Shown]) -> list[Group]:
    """Group runs by their settings without the seed, in the order in which they come."""
    found: dict[str, list[Shown]] = {}
    for run in runs:
        key = repr(sorted((name, repr(value)) for name, value in run.settings.items() if name not in APART))
        found.setdefault(key if run.run.settings else run.name, []).append(run)
    members = list(found.values())
    return [Group(name, each) for name, each in zip(_names(members), members, strict=True)]


def _names(groups: Sequence[Sequence[Shown]]) -> list[str]:
    """Name groups by the rows of their study, by their folders, or by what differs between them.

    Folders are called ROW-SEED.
    """
    ways = ([_row(group) for group in groups], [_stem(group) for group in groups])
    for names in (*ways, [_described(group, differing(groups)) for group in groups]):
        if all(names) and len(set(names)) == len(names):
            return names
    return [group[0].name for group in groups]


def _row(group: Sequence[Shown]) -> str:
    """Find the row of a study that a group is, by the name that trackers have for it: STUDY/ROW."""
    found = {str(run.settings.get("group") or "").partition("/")[2] for run in group}
    return found.pop() if len(found) == 1 else ""


def _stem(group: Sequence[Shown]) -> str:
    """Find what the folders of a group are called before their seed; nothing if they are called otherwise."""
    found = {_before_seed(Path(run.name).name, run.settings.get("seed")) for run in group}
    return found.pop() if len(found) == 1 else ""


def _before_seed(name: str, seed: object) -> str:
    match = re.fullmatch(rf"(.+)-{re.escape(str(seed))}", name)
    return match[1] if match else ""


def differing(groups: Sequence[Sequence[Shown]]) -> list[str]:
    """List the settings that are not the same in all groups, but for the seed."""
    firsts = [group[0].settings for group in groups]
    names = dict.fromkeys(name for settings in firsts for name in settings if name not in APART)
    return [name for name in names if len({repr(settings.get(name)) for settings in firsts}) > 1]


def _described(group: Sequence[Shown], names: Sequence[str]) -> str:
    settings = group[0].settings
    plugins = settings.get("plugins") or "plain"
    others = [
        f"{name}={_last(brief(settings[name]))}"
        for name in names
        if name != "plugins" and settings.get(name) is not None
    ]
    return ", ".join([" + ".join(plugins.split(", ")), *others[:SHOWN]])


def _last(text: str) -> str:
    """Name a file without its folders."""
    return Path(text).name or text


def brief(value: object) -> str:
    """Write the value of a setting."""
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {brief(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(brief, value)) or "none"
    return str(value)
