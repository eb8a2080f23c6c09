"""The command `regkit eval --robust`: what a run loses on changed texts that still say the same."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from regkit.cli.terminal import Terminal, aside, print_lines
from regkit.experiments.tables.formats.cells import number
from regkit.runs.folders import find_run
from regkit.runs.robust import Robust, robust_scores
from regkit.tasks.names import Precision
from regkit.tasks.task import Split, Task


def evaluate(
    runs: Sequence[Path],
    split: Split,
    radii: Sequence[float],
    data: Path | None,
    device: str,
    precision: Precision,
    factory: str | None,
    as_json: bool,
) -> None:
    """Score the best checkpoints of runs on a split as it is and as it is changed.

    Prints what the changes cost.
    """
    with aside() if as_json else nullcontext():
        found = {
            str(run): robust_scores(
                run, split, radii=radii, data=data, device=device, precision=precision, factory=factory
            )
            for run in map(find_run, runs)
        }
    console = Terminal()
    if as_json:
        console.out(json.dumps({"split": split, "runs": {run: _plain(each) for run, each in found.items()}}, indent=2))
        return
    for run, each in found.items():
        print_lines(console, [f"{run}: {split}", *(_line(each, task) for task in each.tasks), *each.notes])


def _plain(found: Robust) -> dict[str, object]:
    losses = {name: {"before": loss.before, "after": loss.after} for name, loss in found.losses.items()}
    return {**losses, "notes": list(found.notes)}


def _line(found: Robust, task: Task) -> str:
    """Write what a task's deciding score is, and what each change takes from it."""
    metric, parts = task.objective.metric, []
    for name, loss in found.losses.items():
        metric = metric if metric in loss.before[task.name] else "loss"  # which labels always define
        before, after = loss.before[task.name][metric], loss.after[task.name][metric]
        parts.append(f"{name} {number(after, 3)} ({number(after - before, 3, signed=True)})")
    whole = next(iter(found.losses.values())).before[task.name][metric]
    return f"  {task.name}: {metric} {number(whole, 3)}; {', '.join(parts)}"
