"""Trackers: tell which plugins only follow a run, and leave out those that are gone."""

from collections.abc import Collection
from pathlib import Path

from regkit.base.errors import PluginError
from regkit.base.files import read_object
from regkit.hooks import catalog, option_values
from regkit.runs.folders import ENVIRONMENT
from regkit.runs.settings import Settings

TRACKERS = "trackers"  # an entry of a run's environment.json


def is_tracker(name: str, run: Path) -> bool:
    """Whether a plugin of a run only follows it.

    Where it is not installed here, the run's own record tells.
    """
    noted = read_object(run / ENVIRONMENT).get(TRACKERS)
    return (isinstance(noted, list) and name in noted) or catalog.only_follows(name)


def leave_out_missing(run: Path, settings: Settings, named: Collection[str] = ()) -> tuple[Settings, list[str]]:
    """Leave out the trackers of a run that cannot be made here, and say which.

    They take no part in its training. Those that are `named` by the user stay, so that the run is refused without them.
    Raises PluginError for a plugin that is not installed and that the run does not know as a tracker.
    """
    plugins, said = dict(settings.plugins), list[str]()
    for name, options in settings.plugins.items():
        if name in named or option_values.CODE in options:
            continue
        try:
            follows = is_tracker(name, run)
        except PluginError as error:
            again = f"regkit.train(resume={str(run)!r}, plugins=[...])"
            error.remedy = f"A class of your own is handed in again, in Python: {again}."
            raise
        if not follows:
            continue
        try:
            catalog.make(name, options)
        except PluginError as error:
            del plugins[name]
            said.append(f"the run goes on without its tracker: {error}")
    return settings.model_copy(update={"plugins": plugins}), said
