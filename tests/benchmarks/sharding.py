"""Peak memory and seconds of a step in each of several processes: with whole layers, and with a part of each (`--shard`).

    python -m tests.benchmarks.sharding [--processes 2] [--layers 12] [--width 768] [--plugins smart bregman] [--rounds 2]

The encoder is a random one of that shape and the texts are the tests' own: nothing has to be there. Memory is what the first
process takes at its peak over the steps, loading left out; seconds are the processor's on the CPU, where processes on one
machine share it, and by the clock on a GPU. The two are taken in turn, and the first step of each is left out.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch

from regkit import Experiment, Settings, hookimpl
from regkit.distributed.launch import find_device, joined
from tests.helpers import write_encoder, write_tasks


@dataclass
class Watch:
    """An observer that notes when each step begins, and the process's peak from the second one on."""

    device: torch.device
    began: list[float] = field(default_factory=list)

    @hookimpl(trylast=True)
    def before_step(self) -> None:
        """Late in a step, so that evaluations are left out: a step lasts from here to here."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        elif len(self.began) == 1:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.began.append(time.perf_counter() if self.device.type == "cuda" else time.process_time())

    def seconds(self) -> float:
        return statistics.median(end - began for began, end in pairwise(self.began[1:]))

    def peak(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated())
        (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return 1024 * int(found)


def work(chosen: argparse.Namespace) -> None:
    """What each process does; the first prints seconds of a step and bytes."""
    torch.set_num_threads(1)
    settings = Settings(
        data=chosen.folder / "data",
        encoder=str(chosen.folder / "encoder"),
        tasks=["mood"],
        steps=chosen.steps + 2,
        batch_size=16,
        shard=chosen.shard,
        measure_every=0,
        plugins={name: {} for name in chosen.plugins},
    )
    with joined(find_device("auto")) as processes:
        experiment = Experiment.build(settings, processes)
        experiment.trainer.position.evaluated = 0
        watch = Watch(experiment.trainer.streams.device)
        experiment.composition.observe(watch)
        experiment.trainer.train()
        if processes.first:
            print(watch.seconds(), watch.peak())


def measured(chosen: argparse.Namespace, *more: str) -> tuple[float, int]:
    """Seconds of a step and peak bytes of the first of the processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(chosen.processes)]
    options = [f"--steps={chosen.steps}", f"--folder={chosen.folder}", "--plugins", *chosen.plugins]
    done = subprocess.run(
        [*start, "-m", __spec__.name, *options, *more],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},  # what is freed on the CPU goes back to the system
    ).stdout.split()
    return float(done[0]), int(done[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--plugins", nargs="*", default=[])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shard", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.folder:
        work(chosen)
        return
    with tempfile.TemporaryDirectory() as temporary:
        chosen.folder = Path(temporary)
        shape = {"hidden_size": chosen.width, "num_hidden_layers": chosen.layers, "intermediate_size": 4 * chosen.width}
        write_encoder(chosen.folder / "encoder", **shape, num_attention_heads=chosen.width // 64)
        write_tasks(chosen.folder / "data")
        for _ in range(chosen.rounds):
            (slow, much), (seconds, peak) = measured(chosen), measured(chosen, "--shard")
            print(
                f"whole: {slow:.2f} s, {much / 2**20:.0f} MiB; in parts: {seconds:.2f} s, {peak / 2**20:.0f} MiB; "
                f"{seconds / slow:.2f} of the seconds, {peak / much:.2f} of the memory",
                flush=True,
            )


if __name__ == "__main__":
    main()
