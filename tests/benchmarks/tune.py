"""Tune: search smart's radius and weight and the learning rate by two samplers, and compare what they found on fresh seeds.

    python -m tests.benchmarks.tune ENCODER DATA [--samplers gp random] [--trials 30] [--jobs 1] [--output DIR]

Each search is `regkit tune` in a process of its own, on a few hundred examples of one task. Both winners and the default have
the same fresh seeds, which no trial had, so they are compared seed by seed. The same command goes on with --output.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from regkit.cli.tune import read_found
from regkit.experiments.asked import read_asked
from regkit.experiments.place import Place
from regkit.experiments.search.found import Found, Gain
from regkit.experiments.search.search import Search
from regkit.experiments.study.study import Study

SPACE = ["smart.epsilon", "smart.weight", "learning_rate=1e-5..1e-3 log"]


def search(chosen: argparse.Namespace, sampler: str, folder: Path) -> Found:
    """Search by one sampler, or go on with it; SystemExit where it fails."""
    words = ["--data", chosen.data, "--encoder", chosen.encoder, "--tasks", chosen.task, "--epochs", chosen.epochs]
    words += ["--subsample", f"{chosen.task}={chosen.examples}", "--plugin", "smart", "--sampler", sampler]
    words += ["--trials", chosen.trials, "--seeds", chosen.seeds, "--fresh-seeds", chosen.fresh_seeds]
    words += [word for each in SPACE for word in ("--space", each)] + ["--jobs", chosen.jobs, "--output", folder]
    if status := subprocess.run([sys.executable, "-m", "regkit", "tune", *map(str, words)]).returncode:
        raise SystemExit(status)
    place = Place(folder)
    study = Study.open(place.name, folder, place.address)
    asked = read_asked(study)
    assert isinstance(asked, Search)
    return read_found(study, asked)


def fresh(found: Found) -> dict[int, float]:
    """The scores of the winner with fresh seeds, or of the default where nothing beat it."""
    return found.progress.fresh(found.progress.winner or found.default)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--samplers", nargs=2, default=["gp", "random"])
    parser.add_argument("--task", default="sts")
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fresh-seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.output or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        found = {sampler: search(chosen, sampler, folder / sampler) for sampler in chosen.samplers}
    for sampler, each in found.items():
        print(f"\n{sampler}:", *each.summary(), *each.conclusion(), sep="\n  ")
    one, other = chosen.samplers
    gain = Gain.of(fresh(found[one]), fresh(found[other]))
    said = f"{gain}, p = {gain.p:.2g}" if gain else "nothing was found to compare"
    print(f"\n{one}'s winner over that of {other}, with the same fresh seeds: {said}")


if __name__ == "__main__":
    main()
