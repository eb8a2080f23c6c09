"""Memory: peak and seconds of a step, padded transformers against regkit with and without a bound.

    python -m tests.benchmarks.memory ENCODER DATA [--task sst] [--batch-size 64] [--rounds 12] [--threads 1] [--random-batches]
    python -m tests.benchmarks.memory ENCODER DATA --estimates 900MB      # how far off the estimate is, for several plugins

Memory is that of the process, each in one of its own: what it took when all was loaded, and at its peak over ROUNDS steps. The
bound is the peak that the padded step had in the same run. Seconds are the processor's, in turn with the padded step; the ratio is the
median of those of each round.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from regkit import Experiment, Settings
from regkit.runs.settings import size_in_bytes
from regkit.training.effects import Meter
from regkit.training.estimate import memory_in_use
from tests.benchmarks.step import Step, padded_step, seconds, step_of

Plugins = Mapping[str, Mapping[str, Any]]

BOTH: Plugins = {"smart": {}, "bregman": {}}
TOGETHER = {"rrobin": {"per_step": 3}}
ESTIMATED: dict[str, Plugins] = {
    "plain": {},
    "smart": {"smart": {}},
    "smart + bregman": BOTH,
    "freelb": {"freelb": {}},
    "rdrop": {"rdrop": {}},
    "pcgrad, 3 tasks": {**TOGETHER, "pcgrad": {}},
    "mixout": {"mixout": {}},
    "sam": {"sam": {}},
    "ema": {"ema": {}},
}


def bounded_step(
    chosen: argparse.Namespace, plugins: Plugins, memory: int | None, tokens: int | None = None
) -> tuple[Step, Callable[[], int]]:
    """Make regkit's update on batch n, measured as in a run, and tell the size of its micro-batches."""
    tasks = None if "rrobin" in plugins else [chosen.task]
    settings = Settings(
        data=chosen.data,
        encoder=str(chosen.encoder),
        tasks=tasks,
        batch_size=chosen.batch_size,
        plugins=plugins,
        memory=memory,
        length_bucketing=not chosen.random_batches,
    )
    experiment = Experiment.build(settings)
    trainer = experiment.trainer
    meter = Meter(trainer.state, experiment.composition, settings.measure_every)
    experiment.composition.observe(meter)
    trainer.state.position.micro_batch_tokens = tokens
    plain = step_of(trainer)

    def step(number: int) -> None:
        plain(number)
        meter.finish()

    return step, lambda: trainer.fit.tokens


def make(
    chosen: argparse.Namespace, plugins: Plugins | None, memory: int | None, tokens: int | None = None
) -> tuple[Step, Callable[[], int]]:
    if plugins is None:
        return padded_step(chosen.encoder, chosen.data, chosen.task, chosen), lambda: 0
    return bounded_step(chosen, plugins, memory, tokens)


def peak(chosen: argparse.Namespace, plugins: Plugins | None, memory: int | None) -> tuple[int, int, int]:
    """Bytes when all is loaded, bytes at the peak of some steps, and the size of micro-batches."""
    torch.set_num_threads(chosen.threads)
    step, fitting = make(chosen, plugins, memory)
    loaded = memory_in_use(torch.device("cpu"))
    for number in range(chosen.rounds):
        step(number)
    status = Path("/proc/self/status").read_text()  # not getrusage, which begins with the peak of the parent
    return loaded, int(status.partition("VmHWM:")[2].split()[0]) * 1024, fitting()


def alone(*arguments: Any) -> tuple[int, int, int]:
    """`peak` in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, arguments)


def compare(chosen: argparse.Namespace) -> None:
    """Compare the padded step with regkit's, without a bound and bounded by the padded step's peak."""
    sizes = {"transformers, padded": alone(chosen, None, None)}
    bound = sizes["transformers, padded"][1]
    kinds: dict[str, tuple[Plugins | None, int | None]] = {
        "transformers, padded": (None, None),
        "regkit": ({}, None),
        "regkit, smart + bregman": (BOTH, None),
        "regkit, smart + bregman, bounded": (BOTH, bound),
    }
    sizes |= {name: alone(chosen, *kind) for name, kind in kinds.items() if name not in sizes}
    steps = {name: make(chosen, kind[0], None, sizes[name][2])[0] for name, kind in kinds.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(chosen.rounds + 2):
        for name, step in steps.items():
            times[name].append(seconds(step, number))
    base = times["transformers, padded"][2:]  # two rounds to warm up
    for name, taken_ in times.items():
        ratio = statistics.median(one / other for one, other in zip(taken_[2:], base, strict=True))
        loaded, most, tokens = sizes[name]
        print(
            f"{name}: {statistics.median(taken_[2:]) * 1000:.0f} ms, {ratio:.2f} of transformers; "
            f"loaded {loaded / 1e6:.0f} MB, peak {most / 1e6:.0f} MB, {most / bound:.2f}, "
            f"beyond what was loaded {(most - loaded) / (bound - sizes['transformers, padded'][0]):.2f}; "
            f"micro-batches of at most {tokens} tokens"
        )


def estimates(chosen: argparse.Namespace) -> None:
    """How near the peak comes to the bound that the estimate was given."""
    memory = size_in_bytes(chosen.estimates)
    for name, plugins in ESTIMATED.items():
        loaded, most, tokens = alone(chosen, plugins, memory)
        print(
            f"{name}: micro-batches of at most {tokens} tokens; peak {most / 1e6:.0f} MB, {most / memory:.2f} of the bound, "
            f"loaded {loaded / 1e6:.0f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory and seconds of a training step.")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="sst")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--random-batches", action="store_true")
    parser.add_argument(
        "--estimates", metavar="MEMORY", help="For several plugins, how near the peak comes to this bound."
    )
    chosen = parser.parse_args()
    chosen.bf16 = False
    torch.set_num_threads(chosen.threads)
    estimates(chosen) if chosen.estimates else compare(chosen)


if __name__ == "__main__":
    main()
