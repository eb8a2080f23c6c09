"""Folders of runs and studies as they are left behind, written by hand: no test of the page has to train."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from regkit.page.reading.groups import Group, grouped, shown
from regkit.runs.listing import Run
from regkit.runs.settings import Settings

TASKS = ("mood", "near")


def write_run(
    folder: Path,
    *,
    steps: int = 40,
    tasks: Sequence[str] = TASKS,
    finished: bool = True,
    plugins: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> Path:
    """The folder of a run whose losses fall, with one measured step in four."""
    folder.mkdir(parents=True)
    chosen = Settings.checked({"data": "/data", "plugins": plugins or {"smart": {}}, **settings}, "the test")
    (folder / "config.toml").write_text(chosen.toml(), encoding="utf8")
    lines = list(_log(steps, tasks, chosen.seed))
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf8")
    scores = {task: {"accuracy": 0.5 + chosen.seed / 100, "loss": 1.0} for task in tasks}
    (folder / "scores.json").write_text(json.dumps({"dev": scores}), encoding="utf8")
    (folder / "effects.json").write_text(json.dumps(_effects()), encoding="utf8")
    (folder / "environment.json").write_text(
        json.dumps({"device": "cpu", "command": ["regkit", "train"]}), encoding="utf8"
    )
    if finished:
        (folder / "finished.json").write_text("{}", encoding="utf8")
    return folder


def _log(steps: int, tasks: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    yield _scored(0, tasks, seed)
    for step in range(steps):
        task = tasks[step % len(tasks)]
        losses = {task: {"task": 2.0 - step / steps + seed / 10, "smart": step / steps / 10}}
        line = {"time": 100.0 + step, "stage": "finetune", "step": step, "learning_rate": 1e-4, "losses": losses}
        yield line | ({"effects": _measured(task)} if step % 4 == 1 else {})
    yield _scored(steps, tasks, seed)


def _scored(step: int, tasks: Sequence[str], seed: int) -> dict[str, Any]:
    scores = {task: {"accuracy": 0.2 + step / 100 + seed / 100, "loss": 2.0 - step / 100} for task in tasks}
    return {"time": 100.0 + step, "stage": "finetune", "step": step, "scores": {"dev": scores}}


def _measured(task: str) -> dict[str, Any]:
    return {
        "terms": {task: {"task": {"size": 1.0, "gradient": 3.0}, "smart": {"size": 0.1, "gradient": 1.0}}},
        "measures": {task: {"smart": {"at the edge": 0.5}}},
        "cosines": {"mood and near": -0.25},
        "seconds": {"regkit": 1.0, "smart": 3.0},
        "passes": {"regkit": 1, "smart": 2},
    }


def _effects() -> dict[str, Any]:
    terms = {"task": (1.0, 0.75), "smart": (0.1, 0.25)}
    return {
        "terms": {name: {"size": size, "share of the gradient": share} for name, (size, share) in terms.items()},
        "plugins": {"smart": {"share of the time": 0.75, "extra passes": 2.0}},
        "warnings": ["'smart' dominates the gradient."],
    }


def groups_of(*folders: Path) -> list[Group]:
    """The runs in these folders, as a page groups them."""
    return grouped(shown([Run(folder) for folder in folders]))


def entry(values: Sequence[float], difference: Mapping[str, Any] | None = None, **column: Any) -> dict[str, Any]:
    """A cell of a table, beside the name of its column."""
    mean = sum(values) / len(values)
    named = {"split": "dev", "task": "mood", "metric": "accuracy", "lower_is_better": False} | column
    return named | {"values": dict(enumerate(values)), "mean": mean, "deviation": 0.01, "difference": difference}


def difference(mean: float, low: float | None, high: float | None) -> dict[str, Any]:
    """A difference with its interval."""
    p = {"p": 0.0625, "adjusted": 0.125, "pairs": 5, "smallest": 0.0625, "needed": 8}
    return {"mean": mean, "low": low, "high": high} | p


def write_study(folder: Path, rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> Path:
    """The folder of an ablation."""
    folder.mkdir(parents=True)
    cost = {"seconds": 60.0, "memory": 2e9, "operations": 1.0, "seconds_ratio": None}
    plain = {"settings": {}, "cost": cost, "effects": [], "failures": {}, "missing": []}
    table = {
        "name": folder.name,
        "baseline": "plain",
        "rows": [plain | dict(row) for row in rows],
        "notes": list(notes),
    }
    (folder / "table.json").write_text(json.dumps(table), encoding="utf8")
    return folder
