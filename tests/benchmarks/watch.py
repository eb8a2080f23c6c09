"""Watch: what it costs to watch plugins for misuse, as a ratio of steps with and without.

    python -m tests.benchmarks.watch ENCODER DATA [--task sst] [--batch-size 32] [--rounds 20] [--plugins smart]

One step after the first ones in sixteen is watched. Steps of the three kinds are made in turn, with the watch and without,
on the same batch; the medians of the ratios are printed, and what they come to over sixteen steps.
"""

import argparse
import statistics
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import torch

from regkit.hooks.watch import Watch
from tests.benchmarks.step import Step, regkit_step, seconds

EVERY = 16
KINDS = {
    "a first step": 1,
    "a watched step": EVERY // 2,
    "any other step": EVERY // 2 + 1,
}  # each by such a step's number


def ratios(watched: Step, unwatched: Step, rounds: int) -> dict[str, float]:
    """Time steps of each kind in turn, each way first in every second round: the median ratio, by kind. Two warm up."""
    found = defaultdict[str, list[float]](list)
    for turn in range(rounds + 2):
        for kind, number in KINDS.items():
            taken = {}
            for on in (True, False) if turn % 2 else (False, True):
                with nullcontext() if on else patch.object(Watch, "on", False):
                    taken[on] = seconds(watched if on else unwatched, number)
            found[kind].append(taken[True] / taken[False])
    return {kind: statistics.median(values[2:]) for kind, values in found.items()}


def main() -> None:
    """Print the ratio of each kind of step, and of all steps after the first ones."""
    parser = argparse.ArgumentParser(description="Seconds of a step that is watched over one that is not.")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="sst")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--plugins", nargs="*", default=["smart"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.bf16, chosen.random_batches = False, False
    plugins: dict[str, dict[str, object]] = {name: {} for name in chosen.plugins}
    steps = [
        regkit_step(chosen.encoder, chosen.data, chosen.task, plugins, chosen, measure_every=EVERY) for _ in range(2)
    ]
    found = ratios(steps[0], steps[1], chosen.rounds)
    for kind, ratio in found.items():
        print(f"{kind}: {ratio:.4f}")
    _, watched, other = found.values()
    print(f"all steps after the first ones: {(watched + (EVERY - 1) * other) / EVERY:.4f}")


if __name__ == "__main__":
    main()
