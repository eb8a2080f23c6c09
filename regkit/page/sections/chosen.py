"""Chosen: list the settings of runs.

Those that differ come first, then those that are not the default, then the others.
"""

from collections.abc import Sequence
from typing import Any

from regkit.base.files import read_object
from regkit.page.document import Block, Cell, Grid
from regkit.page.reading.groups import APART, Group, Shown, all_runs, brief, differing
from regkit.runs.folders import ENVIRONMENT
from regkit.runs.settings import Settings, options

WORDS = frozenset({0, 1, 2})  # columns of words


def settings(groups: Sequence[Group]) -> list[Block]:
    """List settings, those that tell most first.

    Of several groups those that differ, then those that are not the default, then all others.
    """
    known = [run for run in all_runs(groups) if run.run.settings]
    if not known:
        return []
    differ = differing([group.runs for group in groups])
    defaults = {name: _plain(name, option.default) for name, option in options().items()} | {"plugins": ""}
    shared = {name: value for name, value in known[0].settings.items() if name not in differ}
    if len(known) > 1:
        shared = {name: value for name, value in shared.items() if name not in APART} | {"seed": _seeds(known)}
    chosen = [name for name in shared if name not in defaults or shared[name] != defaults[name]]
    rows = [[name, brief(shared[name]), brief(defaults[name]) if name in defaults else ""] for name in chosen]
    others = [[name, brief(value)] for name, value in shared.items() if name not in chosen]
    return [
        *_differing(groups, differ),
        Grid("Settings that are not the default", ["setting", "value", "default"], rows, WORDS),
        Grid("Settings as they are by default", ["setting", "value"], others, WORDS, folded=True),
        *_environment(known[0]),
    ]


def _differing(groups: Sequence[Group], names: Sequence[str]) -> list[Block]:
    rows = [[group.name, *(brief(group.runs[0].settings.get(name)) for name in names)] for group in groups]
    words = frozenset(range(len(names) + 1))
    return [Grid("Settings that differ", ["settings", *names], rows, words)] if names else []


def _seeds(runs: Sequence[Shown]) -> str:
    return ", ".join(dict.fromkeys(brief(run.settings.get("seed")) for run in runs))


def _plain(name: str, value: Any) -> Any:
    """Write a default as a run's settings have it."""
    return Settings.model_construct(**{name: value}).model_dump(mode="json", warnings=False).get(name)


def _environment(run: Shown) -> list[Block]:
    """List what else the numbers depend on."""
    found = read_object(run.folder / ENVIRONMENT)
    rows: list[list[str | Cell]] = []
    for name, value in found.items():
        if name == "command" and isinstance(value, list):
            rows.append([name, " ".join(map(str, value[1:]))])
        elif name != "examples":
            rows.append([name, brief(value)])
    return [Grid(f"Environment of {run.name}", ["what", "value"], rows, frozenset({0, 1}), folded=True)] if rows else []
