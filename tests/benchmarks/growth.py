"""Growth: time to the first step, memory and time of a step as a table grows, the first time and the second.

    python -m tests.benchmarks.growth ENCODER DATA FOLDER [--rows 10000 100000 1000000] [--words 18] [--steps 50] [--json FILE]

The tables are written into FOLDER: texts of so many words on average, cut by chance from the sentences of DATA's SST; a
tenth of the rows becomes the dev split. Beside them is an empty cache, which the second run of each size finds filled. Each
run is a process of its own. Its seconds are those of the clock and of the processor, from its start, imports included, to
the end of the first update; a step's are the processor's, their median. Memory is the peak of what is in memory, and of that
what is not mapped from a file, which the system cannot give up.
"""

import argparse
import csv
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

EVERY = 0.02  # seconds between two looks at the memory
COLUMNS = (
    "rows",
    "time",
    "first step, s",
    "of the processor",
    "ms a step",
    "peak, MB",
    "not mapped, MB",
    "tokens on the disk, MB",
)


def write_table(path: Path, sentences: Sequence[str], rows: int, mean: int) -> None:
    """Write a table of labelled texts."""
    draw, words = random.Random(0), " ".join(sentences).split()
    with path.open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for row in range(rows):
            start, count = draw.randrange(len(words) - 2 * mean), draw.randint(2, 2 * mean)
            writer.writerow((" ".join(words[start : start + count]), row % 5))


def once(encoder: Path, data: Path, steps: int) -> dict[str, float]:
    """Build a run and make some updates in this process."""
    peak = _Peak()
    began = time.time() - _age()
    import torch  # which the first step waits for

    from regkit import Experiment, Settings

    torch.set_num_threads(1)
    experiment = Experiment.build(Settings(data=data, encoder=str(encoder), batch_size=32))
    built, used = time.time(), time.process_time()
    from tests.benchmarks.step import step_of  # and much that no run imports

    aside = time.time() - built, time.process_time() - used
    step = step_of(experiment.trainer)
    step(0)
    first, used = time.time() - began - aside[0], time.process_time() - aside[1]
    times = []
    for number in range(1, steps):
        before = time.process_time()
        step(number)
        times.append(time.process_time() - before)
    return {"first": first, "used": used, "step": statistics.median(times or [0.0]), **peak.finish()}


class _Peak:
    """Watches the memory of this process."""

    def __init__(self) -> None:
        self._most, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def finish(self) -> dict[str, float]:
        self._ended.set()
        self._thread.join()
        return {"peak": _status("VmHWM"), "own": self._most}

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            self._most = max(self._most, _status("RssAnon"))


def _status(name: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) * 1024


def _age() -> float:
    """Tell how many seconds ago this process was started."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return float(Path("/proc/uptime").read_text().split()[0]) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def alone(chosen: argparse.Namespace, table: Path, cache: Path) -> dict[str, float]:
    """Call `once` in a process of its own, with this cache."""
    words = [
        sys.executable,
        "-m",
        "tests.benchmarks.growth",
        str(chosen.encoder),
        str(table.parent),
        str(cache),
        "--steps",
        str(chosen.steps),
    ]
    environment = os.environ | {"REGKIT_CACHE": str(cache)}
    done = subprocess.run([*words, "--once"], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"disk": sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())}


def measure(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure each size twice."""
    with (chosen.data / "ids-sst-train.csv").open(newline="", encoding="utf8") as file:
        sentences = [row["sentence"] for row in csv.DictReader(file, delimiter="\t")]
    for rows in chosen.rows:
        folder = chosen.folder / f"rows-{rows}"
        folder.mkdir(parents=True, exist_ok=True)
        write_table(folder / "train.csv", sentences, rows, chosen.words)
        for name in ("first", "second"):
            yield {"rows": rows, "time": name, **alone(chosen, folder / "train.csv", chosen.folder / f"cache-{rows}")}
        shutil.rmtree(folder)
        shutil.rmtree(chosen.folder / f"cache-{rows}", ignore_errors=True)


def line(found: Mapping[str, Any]) -> str:
    """Write a measurement as a row of a table."""
    cells = [
        f"{found['rows']:,}",
        found["time"],
        f"{found['first']:.1f}",
        f"{found['used']:.1f}",
        f"{found['step'] * 1000:.1f}",
    ]
    cells += [f"{found[name] / 1e6:.0f}" for name in ("peak", "own", "disk")]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--words", type=int, default=18)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(once(given.encoder, given.data, given.steps)))
        raise SystemExit
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    measured = []
    for each in measure(given):
        measured.append(each)
        print(line(each), flush=True)
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1), encoding="utf8")
