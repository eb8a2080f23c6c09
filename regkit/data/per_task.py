"""Per task: read settings that have a value for each task, `sst=500`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from regkit.base.errors import ConfigError, nearest


def by_task(form: str) -> Callable[[object], object]:
    """Make the reader of `sst=500,quora=0.1`, or of several such texts, as the command line gives them.

    It raises ValueError, which shows the `form`.
    """

    def read(value: object) -> object:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, dict):
            return texts
        if not isinstance(texts, list | tuple):
            raise ValueError(f"give {form}")
        found: dict[str, str] = {}
        for part in (part for text in texts for part in str(text).split(",")):
            name, equals, given = (piece.strip() for piece in part.partition("="))
            if not (name and equals and given):
                raise ValueError(f"give {form}")
            if name in found:
                raise ValueError(f"task '{name}' is given twice")
            found[name] = given
        return found

    return read


def check_names(setting: str, values: Mapping[str, Any], tasks: Iterable[str]) -> None:
    """Raise ConfigError for the name of no task."""
    known = list(tasks)
    for name in values:
        if name not in known:
            raise ConfigError(f"{setting}: there is no task '{name}'. {nearest(name, known)}")
