"""Surgery: time and memory of a step of all tasks, the plain sum against surgery and weighting.

    python -m tests.benchmarks.surgery ENCODER DATA [--plugins pcgrad gradvac ...] [--rounds 20] [--threads 1] [--bf16]

Prints the median of each, and the median of the ratios to the plain sum round by round; then the peak memory of a few such steps,
each in a process of its own.
"""

import argparse
import statistics
from multiprocessing import get_context
from pathlib import Path

import torch

from regkit import Experiment, Settings
from tests.benchmarks.step import Step, seconds, step_of

PLUGINS = ("pcgrad", "gradvac", "cagrad", "torchjd", "gradnorm", "famo")


def step_of_all_tasks(encoder: Path, data: Path, plugin: str | None, precision: str) -> Step:
    """A whole update of regkit's loop on batch n of every task."""
    plugins: dict[str, dict[str, object]] = {"rrobin": {"per_step": 3}} | ({} if plugin is None else {plugin: {}})
    settings = Settings(data=data, encoder=str(encoder), plugins=plugins, precision=precision)
    return step_of(Experiment.build(settings).trainer)


def peak(encoder: Path, data: Path, plugin: str | None, precision: str, threads: int) -> float:
    """MB: of the GPU where there is one, or else of the process."""
    torch.set_num_threads(threads)
    step = step_of_all_tasks(encoder, data, plugin, precision)
    for number in range(3):
        step(number)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status").read_text()  # not getrusage, which begins with the peak of the parent
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="A step of several tasks with surgery, beside the plain sum.")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--plugins", nargs="+", default=PLUGINS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    precision = "bf16" if chosen.bf16 else "fp32"
    names = [None, *chosen.plugins]
    steps = {name: step_of_all_tasks(chosen.encoder, chosen.data, name, precision) for name in names}
    times: dict[str | None, list[float]] = {name: [] for name in names}
    for number in range(chosen.rounds + 2):
        for name, step in steps.items():
            times[name].append(seconds(step, number))
    sizes = {}
    for name in names:
        with get_context("spawn").Pool(1) as pool:
            sizes[name] = pool.apply(peak, (chosen.encoder, chosen.data, name, precision, chosen.threads))
    for name in names:
        taken, base = times[name][2:], times[None][2:]  # two rounds to warm up
        ratio = statistics.median(one / other for one, other in zip(taken, base, strict=True))
        said = f"{statistics.median(taken) * 1000:.0f} ms, {ratio:.3f} of the plain sum"
        print(f"{name or 'plain sum'}: {said}; peak {sizes[name]:.0f} MB, {sizes[name] / sizes[None]:.2f}")


if __name__ == "__main__":
    main()
