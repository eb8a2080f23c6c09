"""Apart: train a model for each task by transformers' Trainer, on the very examples that runs of one shared model have.

    python -m tests.benchmarks.apart ENCODER DATA --tasks sst quora sts --subsample 2000 --first-seed 1000 --seeds 5

Scores are those of the test split, or of `--split`. Runs of `regkit train` with the same `--seed` and `--subsample` draw the
same examples. Each training is a program of its own, with the Trainer's own settings unless others are given.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

from regkit.data.declare import TaskSpec
from regkit.data.find import find_tasks
from regkit.data.load import load_task
from regkit.data.subsample import Draw
from regkit.model.encoders import find_encoder
from regkit.model.tokenizer import Tokenizer
from regkit.tasks.objectives import Regression
from regkit.tasks.task import Examples, Split, Task

LONGEST = 128  # tokens, of which the texts of these tasks have fewer


def task_of(name: str, spec: TaskSpec, tokenizer: Tokenizer, subsample: int | None, seed: int) -> Task:
    """Read a task with its texts, and with the training examples that a run of this seed draws."""
    draw = Draw(subsample, seed) if subsample else None
    return load_task(name, spec, tokenizer, LONGEST, keep_texts=True, draw=draw)


def write_rows(task: Task, folder: Path, scored: Split) -> None:
    """Write texts and labels as the Trainer's program reads them: the drawn examples, and as its dev the split that scores."""
    numbers = isinstance(task.objective, Regression)
    splits: list[tuple[Split, str]] = [("train", "train"), (scored, "dev")]
    for split, name in splits:
        examples = task.splits[split]
        assert isinstance(examples, Examples)
        labels = [float(label) if numbers else str(int(label)) for label in examples.labels]
        rows = [
            {**dict(zip(("text", "other"), texts, strict=False)), "label": label}
            for texts, label in zip(examples.texts, labels, strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf8")


def trained(words: Sequence[object], output: Path) -> float:
    """Run the Trainer's program. Returns the score of the task; SystemExit with the last line of a failure."""
    command = [sys.executable, "-m", "tests.benchmarks.trainer", *map(str, words), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(done.stderr.strip().rpartition("\n")[2])
    found = json.loads(done.stdout.strip().rpartition("\n")[2])
    return next(found[f"eval_{name}"] for name in ("accuracy", "pearson") if f"eval_{name}" in found)


def compare(chosen: argparse.Namespace) -> None:
    """Train the tasks with each seed, and print their scores, the mean over tasks, and then the mean over seeds."""
    encoder, specs = find_encoder(chosen.encoder), find_tasks(chosen.data)
    tokenizer, means = Tokenizer.load(encoder), []
    settings = ["--batch-size", chosen.batch_size, "--learning-rate", chosen.learning_rate, "--epochs", chosen.epochs]
    for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
        scores = {}
        for name in chosen.tasks:
            task = task_of(name, specs[name], tokenizer, chosen.subsample, seed)
            with TemporaryDirectory() as place:
                write_rows(task, Path(place), chosen.split)
                words = ["--encoder", encoder, "--data", place, "--warmup", chosen.warmup, "--seed", seed, *settings]
                scores[name] = trained(words, Path(place) / "output")
        means.append(mean(scores.values()))
        print(
            f"seed {seed}: {', '.join(f'{name} {score:.3f}' for name, score in scores.items())}, mean {means[-1]:.3f}"
        )
    print(f"mean {mean(means):.3f}" + (f" ± {stdev(means):.3f}" if len(means) > 1 else ""))


def parser() -> argparse.ArgumentParser:
    """Build what reads the command's words; the settings without a value are the Trainer's own."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("encoder")
    made.add_argument("data", type=Path)
    made.add_argument("--tasks", nargs="+", required=True)
    made.add_argument("--subsample", type=int, help="training examples of each task, drawn by the seed")
    made.add_argument("--seeds", type=int, default=5)
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--split", choices=("dev", "test"), default="test")
    made.add_argument("--learning-rate", type=float, default=5e-5)
    made.add_argument("--epochs", type=float, default=3.0)
    made.add_argument("--batch-size", type=int, default=8)
    made.add_argument("--warmup", type=float, default=0.0, help="share of the updates")
    return made


if __name__ == "__main__":
    compare(parser().parse_args())
