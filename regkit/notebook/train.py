"""Train: `regkit train` from Python, on data and plugins that are objects there."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from regkit.base.errors import ConfigError, nearest
from regkit.cli import train as training
from regkit.cli.gather import check, gather
from regkit.hooks import uninstalled
from regkit.hooks.handed import Handed, take
from regkit.notebook.memory import write_tables
from regkit.runs import folders
from regkit.runs.elsewhere import setting_called
from regkit.runs.settings import Settings
from regkit.runs.trackers import leave_out_missing
from regkit.runs.trained import Trained, checked_path, load

TRAINING = Lock()  # held while a thread of this process trains


def train(
    data: Any = None,
    *,
    plugins: Iterable[object] = (),
    output: str | Path | None = None,
    resume: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Trained:
    """Train as `regkit train` does, and return the best model, which answers for new texts.

    `data` is what `--data` takes, or a table in memory, or such tables by task: `{"sst": (texts, labels)}`. A table is a
    pair of lists, a DataFrame, a `datasets.Dataset`, or a mapping from splits to these; see `notebook.memory`. Plugins are
    names with options, `"smart:weight=3"`, classes, or objects, of which the run makes its own. `settings` are those of
    `regkit settings`, by name. `resume` goes on with the run in a folder, `quiet` prints nothing.

    Raises RegkitError, whose message is the sentence that the command line prints, before any training; and where
    training stops, by Ctrl-C too, with the command that goes on.
    """
    _check_names(settings)
    given = dict(settings)
    given |= {name: _named(given[name]) for name in ("text", "label") if name in given}
    if isinstance(given.get("text"), str):
        given["text"] = [given["text"]]
    if data is not None:
        given["data"] = data if isinstance(data, str | Path) else write_tables(data, chosen=given.get("tasks"))
    begin, go_on = checked_path("output", output), checked_path("resume", resume)
    handed = take(plugins)
    with _alone(), uninstalled.handing(handed.plugins):
        folder = _train(given, handed, begin, str(go_on) if go_on else None, quiet)
        return load(folder, device=given.get("device", "auto"), factory=given.get("encoder_factory"))


@contextmanager
def _alone() -> Iterator[None]:
    """Raise ConfigError if another thread trains: all threads draw from torch's one generator."""
    if not TRAINING.acquire(blocking=False):
        raise ConfigError("another thread of this program trains, and would draw this run's numbers; start a process.")
    try:
        yield
    finally:
        TRAINING.release()


def _named(column: Any) -> Any:
    """Name a column, or several, by text: pandas numbers those that have no names."""
    if isinstance(column, list | tuple):
        return list(map(_named, column))
    return str(column) if isinstance(column, int) else column


def _check_names(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first unknown setting, with the one it means: `learning_rate` for `lr`."""
    known = Settings.model_fields
    for name in settings:
        if name not in known:
            raise ConfigError(f"regkit.train has no option '{name}'. {nearest(setting_called(name), known)}")


def _train(given: dict[str, Any], handed: Handed, output: Path | None, resume: str | None, quiet: bool) -> Path:
    run = folders.to_resume(resume, output)
    base = run / folders.CONFIG if run else None
    chosen = gather(base, given, list(handed.options.items()), owner="regkit.train")
    said = list[str]()
    if run is None:
        folders.check_free(output)
    else:
        chosen, said = leave_out_missing(run, chosen, named=handed.options)
    check(chosen, begins=run is None)
    folder = training.train(chosen, base, run, output, dry_run=False, quiet=quiet, said=said)
    assert folder is not None  # it is no dry run
    return folder
