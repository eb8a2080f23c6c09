"""The commands `regkit runs` and `regkit clean`: list, compare and clean up runs."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from regkit.base.errors import ConfigError, typed
from regkit.base.files import follow
from regkit.base.wording import in_bytes, in_time
from regkit.cli.terminal import Terminal, print_line, print_lines
from regkit.runs.folders import is_run
from regkit.runs.listing import Run, differing, find_runs

NOTHING = "-"  # where a run has no such value


def runs(paths: Sequence[Path], as_json: bool) -> None:
    """List runs; of two runs, compare them."""
    console = Terminal()
    if len(paths) == 2 and all(is_run(follow(path)) for path in paths):
        _compare(console, Run(paths[0]), Run(paths[1]), as_json)
        return
    found = find_runs(paths)
    if as_json:
        console.out(json.dumps([run.as_json() for run in found], indent=2), highlight=False)
        return
    rows = [[str(run.folder), run.state, ", ".join(run.plugins), _scores(run), *_costs(run)] for run in found]
    if rows:
        _print(console, ["run", "state", "plugins", "dev scores", "time", "disk"], rows)
    else:
        print_line(console, _none(paths))


def _none(paths: Sequence[Path]) -> str:
    if paths:
        return f"there is no run in {' and '.join(map(str, paths))}"
    return "there is no run yet: `regkit train` makes one"


def _compare(console: Terminal, one: Run, other: Run, as_json: bool) -> None:
    """Print where two runs differ: settings, scores, time, disk. Raises ConfigError if they are the same."""
    both = (one, other)
    if follow(one.folder).resolve() == follow(other.folder).resolve():
        raise ConfigError(f"{one.folder} and {other.folder} are the same run; name two.")
    settings = differing(one, other)
    if as_json:
        values = {"runs": [run.as_json() for run in both], "settings": settings}
        console.out(json.dumps(values, indent=2), highlight=False)
        return
    names = dict.fromkeys((task, name) for run in both for task, scores in run.scores.items() for name in scores)
    rows = [[name, *map(_value, values)] for name, values in settings.items()]
    rows += [[f"{task} {name}", *(_value(run.scores.get(task, {}).get(name)) for run in both)] for task, name in names]
    rows += [["state", *(run.state for run in both)]]
    rows += [list(row) for row in zip(["time", "disk"], *map(_costs, both), strict=True)]
    _print(console, ["setting or score", *(str(run.folder) for run in both)], rows)


def clean(paths: Sequence[Path], yes: bool, as_json: bool) -> None:
    """Say what finished runs can do without, and free it if the user agrees."""
    found, console = find_runs(paths), Terminal()
    if not found and not as_json:
        print_line(console, _none(paths))
        return

    from regkit.cli.freeing import free, plan  # which import torch

    planned = [plan(run) for run in found]
    total = sum(each.size for each in planned)
    if not as_json:
        print_lines(console, [f"{each.run.folder}: {_says(each.size, each.reason)}" for each in planned])
    agreed = bool(total) and (yes or (not as_json and _agrees(console, total, paths)))
    planned = [free(each) for each in planned] if agreed else planned
    if as_json:
        console.out(json.dumps([each.as_json() for each in planned], indent=2), highlight=False)
    elif agreed:
        kept = [f"{each.run.folder}: {each.reason}" for each in planned if each.size and not each.freed]
        print_lines(console, [*kept, f"freed {in_bytes(sum(each.size for each in planned if each.freed))}"])


def _agrees(console: Terminal, total: int, paths: Sequence[Path]) -> bool:
    """Ask on a terminal; elsewhere, say how to agree."""
    if console.is_terminal:
        return typer.confirm(f"Free {in_bytes(total)}? The weights of best and last stay.")
    print_line(console, f"to free {in_bytes(total)}: {typed('regkit', 'clean', *paths, '--yes')}")
    return False


def _says(size: int, reason: str) -> str:
    return f"{in_bytes(size)}, {reason}" if size else reason


def _costs(run: Run) -> list[str]:
    return [NOTHING if run.seconds is None else in_time(run.seconds), in_bytes(run.bytes)]


def _scores(run: Run) -> str:
    """Write the main score of each task, which is its first."""
    firsts = [(task, *next(iter(scores.items()))) for task, scores in run.scores.items() if scores]
    return ", ".join(f"{task} {name} {_value(value)}" for task, name, value in firsts)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(NOTHING if value is None else value)


def _print(console: Terminal, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns that are as wide as their longest cell, a run or a value a line."""
    filled = [[cell or NOTHING for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for row in filled:
        print_line(console, "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
