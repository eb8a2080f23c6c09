"""Benchmarks: regkit beside its peers - the same weights and batches, in turn, in one run.

    python -m tests.benchmarks [PART ...] [--encoder ENCODER] [--data DATA] [--quick] [--json FILE]

Outputs and gradients are compared before anything is timed. Each table says the median of the times, and the median and
the quartiles of their ratios to the first row, round by round. Peers that are not installed are left out, and that is
said; pip install 'regkit[bench]' installs them.
"""

import argparse
import ast
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch

from regkit.base.errors import ConfigError, RegkitError, nearest
from regkit.base.files import write
from regkit.data.declare import TaskSpec
from regkit.data.find import find_tasks
from regkit.model.encoders import find_encoder
from tests.benchmarks.options import Options
from tests.benchmarks.surroundings import surroundings
from tests.benchmarks.table import shown

PARTS = ("step", "smart", "surgery", "pairs", "memory", "run", "predict", "hooks", "watch", "encoders", "gpu")
STUDIES = [
    "adversary",
    "apart",
    "ascent",
    "corpus",
    "effect",
    "gains",
    "growth",
    "ladder",
    "race",
    "scaffold",
    "statistics",
    "tune",
]  # not of speed


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print each table as it is there, and write them all. Returns the exit status."""
    chosen = parser().parse_args(words)
    try:
        options, parts = options_of(chosen), parts_of(chosen.parts)
        if chosen.json:
            write(chosen.json, "{}\n")  # before anything is measured: it may not be possible
        torch.set_num_threads(options.threads)
        quiet()
        context, tables = surroundings(options), []
        print(*(f"{name}: {value}" for name, value in context.items()), "", sep="\n")
        for part in parts:
            for table in import_module(f"tests.benchmarks.{part}").tables(options):
                print(shown(table), flush=True)
                tables.append({"part": part, **asdict(table)})
                if chosen.json:  # after each table: a run that is broken off leaves what it found
                    write(chosen.json, json.dumps({"surroundings": context, "tables": tables}, indent=2) + "\n")
    except (RegkitError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Build what reads the command's words."""
    made = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__, epilog=listed())
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("parts", nargs="*", metavar="PART", help="what to measure; nothing for all")
    made.add_argument("--encoder", help="as for regkit train; without it, that of the demo")
    made.add_argument("--data", type=Path, help="as for regkit train; without it, the demo's")
    made.add_argument("--task", help="which the parts of one task train; without it, the first of classes of one text")
    made.add_argument("--pairs", help="which the part `pairs` trains; without it, the first with scores of pairs")
    made.add_argument("--batch-size", type=positive, default=Options.batch_size)
    made.add_argument("--rounds", type=positive, help="20, and 3 with --quick")
    made.add_argument("--epoch", type=positive, default=Options.epoch, help="rounds of the part gpu; 755 are an epoch")
    made.add_argument("--threads", type=positive, default=Options.threads, help="of the processor")
    made.add_argument("--precision", choices=("fp32", "bf16"), default=Options.precision)
    made.add_argument("--random-batches", action="store_true", help="do not put texts of like length together")
    made.add_argument("--quick", action="store_true", help="fewer rows and rounds: that it works, in minutes")
    made.add_argument("--json", type=Path, metavar="FILE", help="write tables and surroundings there, too")
    return made


def listed() -> str:
    """List the parts, and the studies that are commands of their own."""
    found = [f"  {name:12} {first_line(name)}" for name in PARTS]
    others = [f"  {name:12} {first_line(name)}" for name in STUDIES]
    return "\n".join(["parts:", *found, "", "of other questions, each by python -m tests.benchmarks.NAME:", *others])


def first_line(module: str) -> str:
    """Read the first line of a module's docstring, without its name and without importing it."""
    tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf8"))
    return (ast.get_docstring(tree) or "").splitlines()[0].partition(": ")[2]


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least 1")
    return int(text)


def parts_of(names: Sequence[str]) -> Sequence[str]:
    """Choose the parts; nothing stands for all. Raises ConfigError for a name that none has."""
    for name in names:
        if name not in PARTS:
            also = f" '{name}' is a command of its own: python -m tests.benchmarks.{name}." if name in STUDIES else ""
            raise ConfigError(f"there is no part '{name}'.{also} {nearest(name, PARTS)}")
    return names or PARTS


def options_of(chosen: argparse.Namespace) -> Options:
    """Make the options of all parts. Raises RegkitError for an encoder, data or a task that is not there."""
    encoder, found = find_encoder(chosen.encoder), find_tasks(chosen.data)
    for name in filter(None, (chosen.task, chosen.pairs)):
        if name not in found:
            raise ConfigError(f"there is no task '{name}'. {nearest(name, found)}")
    task = chosen.task or first_task(found, "classification", 1)
    if task is None:
        raise ConfigError("no task of the data has classes of one text; name one by --task.")
    return Options(
        encoder,
        chosen.data,
        task,
        chosen.pairs or first_task(found, "regression", 2),
        batch_size=chosen.batch_size,
        rounds=chosen.rounds or (3 if chosen.quick else Options.rounds),
        epoch=chosen.epoch,
        threads=chosen.threads,
        precision=chosen.precision,
        bucketing=not chosen.random_batches,
        quick=chosen.quick,
    )


def first_task(found: Mapping[str, TaskSpec], kind: str, texts: int) -> str | None:
    """Find the first task of a kind that reads so many texts."""
    return next((name for name, spec in found.items() if spec.kind == kind and len(spec.text_columns) == texts), None)


def quiet() -> None:
    """Keep transformers from reporting what it loads."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


if __name__ == "__main__":
    sys.exit(main())
