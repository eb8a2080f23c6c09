"""A run as a tracker follows it: six updates and a failure, then the same from update 3 on, to the ninth."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

SETTINGS = {"learning_rate": 5e-5, "group": "study/smart", "plugins.smart.weight": 1.0}
LAST, CHECKPOINT, FAILED = 9, 3, 6
SCORED = (0, 3, 6, 9)

LOSS, SCORE = "losses/mood/task", "scores/dev/mood/accuracy"


def lines(first: int, last: int) -> list[dict[str, Any]]:
    """The lines of the log after `first` updates, until `last`."""
    found: list[dict[str, Any]] = [_scores(0)] if not first else []
    for update in range(first + 1, last + 1):
        when = {"time": 1e9 + update, "stage": "finetune", "step": update - 1, "updates": update}
        found.append(when | {"learning_rate": 1e-5 * update, "losses": {"mood": {"task": update / 8}}})
        found += [_scores(update)] if update in SCORED else []
    return found


def _scores(update: int) -> dict[str, Any]:
    when = {"time": 1e9 + update, "stage": "finetune", "step": update, "updates": update}
    return when | {"scores": {"dev": {"mood": {"accuracy": update / 16}}}}


def follow(make: Callable[[], Any], folder: Path, settings: Mapping[str, Any] = SETTINGS) -> None:
    """Tell a tracker of a run that fails after 6 updates, and goes on from 3 in another process."""
    for first, last, state in ((0, FAILED, "failed"), (CHECKPOINT, LAST, "finished")):
        tell(make(), folder, first, lines(first, last), state, settings)


def tell(
    plugin: Any,
    folder: Path,
    first: int,
    records: Sequence[Any],
    state: str | None,
    settings: Mapping[str, Any] = SETTINGS,
) -> None:
    """Tell a tracker of one process's part; without a state at its end, the process is killed."""
    given = {"folder": folder, "settings": settings, "updates": first, "state": state}
    given["records"] = lines(0, first) if first else []
    _call(plugin.begin_run, given)
    for start in range(0, len(records), 4):
        plugin.logged(records=records[start : start + 4])
    if state:
        _call(plugin.end_run, given)


def _call(method: Any, given: Mapping[str, Any]) -> None:
    """Call a hook with the arguments that it names, as pluggy does."""
    names = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    method(**{name: given[name] for name in names})


LOSSES = [(update, update / 8) for update in range(1, LAST + 1)]  # each once
SCORES = [(update, update / 16) for update in SCORED]
