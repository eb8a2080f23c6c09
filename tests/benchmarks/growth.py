"""Growth: time to the first step, memory and time of a step as rows and tasks grow, the first time and the second.

    python -m tests.benchmarks.growth ENCODER DATA FOLDER [--rows 10000 100000 1000000] [--tasks 3 10 30 100] [--words 18]
        [--steps 50] [--json FILE] [--picture FILE]

The tables are written into FOLDER: texts of so many words on average, cut by chance from the sentences of DATA's SST; a
tenth of the rows becomes the dev split. `--rows` are those of one task, and each of `--tasks` has 300. Beside them is an
empty cache, which the second run of each size finds filled. Each run is a process of its own. Its seconds are those of the clock and of the processor, from its start, imports included, to
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
ROWS_OF_A_TASK = 300  # where tasks are counted
TASK = """[tasks.task{number}]
kind = "classification"
text = "text"
label = "label"
classes = 5
train = "task{number}.csv"
dev = 0.1
"""
COLUMNS = (
    "size",
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


def write_tables(folder: Path, sentences: Sequence[str], kind: str, count: int, mean: int) -> None:
    """Write one table of `count` rows, or `count` tasks with a table each."""
    folder.mkdir(parents=True)
    if kind == "rows":
        write_table(folder / "train.csv", sentences, count, mean)
        return
    for number in range(count):
        write_table(folder / f"task{number}.csv", sentences, ROWS_OF_A_TASK, mean)
    tasks = [TASK.format(number=number) for number in range(count)]
    (folder / "tasks.toml").write_text("\n".join(tasks), encoding="utf8")


def once(encoder: Path, data: Path, steps: int) -> dict[str, float]:
    """Build a run and make some updates in this process."""
    peak = _Peak()
    began = time.time() - _age()
    import torch  # which the first step waits for

    from regkit import Experiment, Settings

    torch.set_num_threads(1)
    experiment = Experiment.build(Settings(data=data, encoder=str(encoder), batch_size=32))
    built, used = time.time(), time.process_time()
    from tests.benchmarks.ours import step_of  # and much that no run imports

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


def alone(chosen: argparse.Namespace, data: Path, cache: Path) -> dict[str, float]:
    """Call `once` in a process of its own, with this cache."""
    words = [
        sys.executable,
        "-m",
        "tests.benchmarks.growth",
        str(chosen.encoder),
        str(data),
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
    for kind in ("rows", "tasks"):
        for count in getattr(chosen, kind):
            folder, cache = (chosen.folder / f"{kind}-{count}{part}" for part in ("", "-cache"))
            write_tables(folder, sentences, kind, count, chosen.words)
            for name in ("first", "second"):
                yield {"kind": kind, "count": count, "time": name, **alone(chosen, folder, cache)}
            shutil.rmtree(folder)
            shutil.rmtree(cache, ignore_errors=True)


def line(found: Mapping[str, Any]) -> str:
    """Write a measurement as a row of a table."""
    cells = [
        f"{found['count']:,} {found['kind']}",
        found["time"],
        f"{found['first']:.1f}",
        f"{found['used']:.1f}",
        f"{found['step'] * 1000:.1f}",
    ]
    cells += [f"{found[name] / 1e6:.0f}" for name in ("peak", "own", "disk")]
    return f"| {' | '.join(cells)} |"


PANELS = {  # of the picture: what is drawn, and by how much it is divided
    "processor time to the first step, s": (("used",), 1.0),
    "processor time of a step, ms": (("step",), 1e-3),
    "memory, MB": (("peak", "own"), 1e6),
}
NAMES = {"used": "", "step": "", "peak": ", at most", "own": ", not mapped"}


def draw(measured: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw what was measured, in the form that the file's name ends with."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(found["kind"] for found in measured))
    figure = Figure(figsize=(12, 3.2 * len(kinds)), layout="constrained")
    axes = figure.subplots(len(kinds), len(PANELS), squeeze=False)
    for row, kind in zip(axes, kinds, strict=True):
        for panel, (title, (names, unit)) in zip(row, PANELS.items(), strict=True):
            for turn in ("first", "second"):
                chosen = [found for found in measured if (found["kind"], found["time"]) == (kind, turn)]
                for name in names:
                    values = [found[name] / unit for found in chosen]
                    panel.plot([found["count"] for found in chosen], values, "o-", label=f"{turn} time{NAMES[name]}")
            panel.set(xscale="log", xlabel=kind, title=title, ylim=(0, None))
            panel.legend()
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--tasks", type=int, nargs="*", default=[3, 10, 30, 100])
    parser.add_argument("--words", type=int, default=18)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="an SVG or PNG file; it needs matplotlib")
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
    if given.picture:
        draw(measured, given.picture)
