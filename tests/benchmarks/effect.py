"""Effect: train sets of plugins on little data, and print scores and cost beside no plugin's.

    python -m tests.benchmarks.effect ENCODER DATA 'smart' 'smart:weight=5' 'smart bregman' [--seeds 3] [--held-out]

Every run is `regkit train` in a process of its own. It trains on a few hundred examples a task, the same for every row of a
seed, and is scored on the dev files; with `--held-out`, for choosing options, on other examples of the training files instead.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from regkit.data.demo import SETTINGS

FILES = {"sst": "ids-sst-{}.csv", "quora": "quora-{}.csv", "sts": "sts-{}.csv"}


@dataclass
class Ran:
    """One run: the last scores, what it took, and what its log says of the plugins."""

    scores: dict[str, float]  # by task
    seconds: float
    memory: float  # peak, in MB
    effects: dict[str, dict[str, float]]


def rows_of(path: Path) -> tuple[str, list[str]]:
    header, *rows = path.read_text(encoding="utf8").splitlines(keepends=True)
    return header, rows


def cut(data: Path, folder: Path, *, examples: Sequence[int], dev: int, held_out: bool, seed: int) -> None:
    """Write a folder like `data` with fewer examples a task; the held-out ones are equal for all seeds."""
    for pattern, number in zip(FILES.values(), examples * len(FILES) if len(examples) == 1 else examples, strict=True):
        header, rows = rows_of(data / pattern.format("train"))
        random.Random(0).shuffle(rows)
        scored, rest = (rows[:dev], rows[dev:]) if held_out else (rows_of(data / pattern.format("dev"))[1][:dev], rows)
        chosen = random.Random(seed).sample(rest, number)
        for split, part in {"train": chosen, "dev": scored}.items():
            (folder / pattern.format(split)).write_text(header + "".join(part), encoding="utf8")


def train(encoder: Path, data: Path, output: Path, plugins: Sequence[str], extra: Sequence[str]) -> Ran:
    """`regkit train` in a process of its own; SystemExit with its words where it fails."""
    named = [word for plugin in plugins for word in ("--plugin", plugin)]
    command = [sys.executable, "-m", "regkit", "train", "--data", data, "--encoder", encoder, "--output", output]
    process = subprocess.Popen([*map(str, command), *named, *extra], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode() if process.stderr else ""
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(plugins)}: {said}")
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    scores = [line["scores"]["dev"] for line in log if "scores" in line][-1]
    found = {task: next(iter(values.values())) for task, values in scores.items()}
    effects = json.loads((output / "effects.json").read_text()) if (output / "effects.json").exists() else {}
    return Ran(found, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, effects)


def runs(chosen: argparse.Namespace) -> Iterator[tuple[int, str, Ran]]:
    """Every run, seed by seed; the one without plugins first."""
    with tempfile.TemporaryDirectory() as name:
        for seed in range(chosen.seeds):
            data = Path(name) / f"data-{seed}"
            data.mkdir()
            cut(chosen.data, data, examples=chosen.examples, dev=chosen.dev, held_out=chosen.held_out, seed=seed)
            for row in ("", *chosen.plugins):
                output = Path(name) / f"run-{seed}-{len(list(Path(name).iterdir()))}"
                extra = ["--epochs", str(chosen.epochs), "--lr", str(chosen.learning_rate), "--seed", str(seed)]
                yield seed, row, train(chosen.encoder, data, output, [*chosen.scheduler.split(), *row.split()], extra)


def main() -> None:
    """Print the figures of every run as it ends, and then a table of means."""
    parser = argparse.ArgumentParser(description="Methods beside no method, on a small part of the course's data.")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("plugins", nargs="*", help="each a set of plugins, apart by spaces")
    parser.add_argument("--scheduler", default="rrobin", help="in every row; '' for none")
    parser.add_argument(
        "--examples", type=int, nargs="+", default=[500], help="for training; one number, or one a task"
    )
    parser.add_argument("--dev", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=SETTINGS["learning_rate"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--held-out", action="store_true")
    chosen = parser.parse_args()
    found: dict[str, list[Ran]] = {}
    for seed, row, ran in runs(chosen):
        found.setdefault(row, []).append(ran)
        print(seed, row or "nothing", ran, flush=True)
    columns = ["plugins", *FILES, "mean", "CPU time", "memory", "of a step's time", "of the gradient"]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row, each in found.items():
        scores = [mean(ran.scores[task] for ran in each) for task in FILES]
        cost = mean(ran.seconds / plain.seconds for ran, plain in zip(each, found[""], strict=True))
        size = mean(ran.memory / plain.memory for ran, plain in zip(each, found[""], strict=True))
        shown = [*(f"{score:.3f}" for score in (*scores, mean(scores))), f"{cost:.2f}", f"{size:.2f}"]
        shown += [f"{100 * mean(map(share, each)):.2g} %" for share in (time_of_plugins, gradient_of_plugins)]
        print(f"| {row or 'nothing'} | {' | '.join(shown)} |")


def time_of_plugins(ran: Ran) -> float:
    return sum(plugin["share of the time"] for plugin in ran.effects["plugins"].values())


def gradient_of_plugins(ran: Ran) -> float:
    return sum(term["share of the gradient"] for name, term in ran.effects["terms"].items() if name != "task")


if __name__ == "__main__":
    main()
