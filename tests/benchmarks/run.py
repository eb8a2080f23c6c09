"""Run: a whole training of one task, from the first import to the last score, beside transformers' Trainer.

Each is a program of its own; its time is that of the processor, all threads and start-up included.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from regkit.data.find import find_tasks
from tests.benchmarks import child
from tests.benchmarks.options import Options
from tests.benchmarks.peak import Peak
from tests.benchmarks.table import INSTALL, Table, rows_of
from tests.benchmarks.turns import in_turn

UPDATES, ROUNDS = 150, 3
RATE = "5e-5"


@dataclass
class Program:
    """A program that is run again and again, each time with a new folder as its last word."""

    words: Sequence[str]
    folder: Path
    most: int = 0  # bytes of memory, in any run

    def run(self, number: int) -> float:
        """Run it. Returns seconds: by the clock where a GPU does the work. Raises RunError if it fails."""
        output = self.folder / "output"
        used = child.run(["-m", *self.words, output])
        shutil.rmtree(output)
        self.most = max(self.most, used.most)
        return used.wall if torch.cuda.is_available() else used.processor


def tables(options: Options) -> Iterator[Table]:
    """Compare trainings of as many updates, each scored before the first update and after the last."""
    updates, rounds = (4, 1) if options.quick else (UPDATES, min(options.rounds, ROUNDS))
    with TemporaryDirectory() as name:
        programs = {who: Program(words, Path(name)) for who, words in commands(options, updates, Path(name)).items()}
        taken = in_turn(
            {who: each.run for who, each in programs.items()}, rounds, lambda work, number: work(number), warm_up=0
        )
    sizes = {who: Peak(each.most) for who, each in programs.items()}
    notes = [] if find_spec("accelerate") else [f"transformers' Trainer is left out: {INSTALL}"]
    title = f"A run of {updates} updates of {options.task}, batches of {options.batch_size}, from start to last score"
    yield Table(title, rows_of(taken, sizes), notes)


def commands(options: Options, updates: int, folder: Path) -> dict[str, list[str]]:
    """List the programs: of each the module and its words."""
    common = ["--encoder", str(options.encoder), "--steps", str(updates), "--batch-size", str(options.batch_size)]
    common += ["--learning-rate", RATE, "--precision", options.precision]
    ours = ["regkit", "train", *common, "--tasks", options.task, "--pooling", "pooler"]
    ours += ["--data", str(options.data)] if options.data else []
    if not find_spec("accelerate"):
        return {"regkit": [*ours, "--output"]}
    theirs = ["tests.benchmarks.trainer", *common, "--data", str(rows_for_trainer(options, folder))]
    grouped = {} if options.quick else {"transformers' Trainer, grouped by length": [*theirs, "--grouped", "--output"]}
    return {
        "transformers' Trainer, random batches": [*theirs, "--output"],
        **grouped,
        "regkit": [*ours, "--output"],
    }


def rows_for_trainer(options: Options, folder: Path) -> Path:
    """Write the task's texts and labels as JSON lines: the Trainer's program reads nothing else."""
    spec = find_tasks(options.data)[options.task]
    (text,) = spec.text_columns
    for split in ("train", "dev"):
        rows = [{"text": row[text], "label": row[spec.label]} for row in spec.table(split).rows]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf8")
    return folder
