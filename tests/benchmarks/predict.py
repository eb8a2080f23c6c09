"""Predict: time regkit and transformers' pipeline in turn, with the same weights on the same texts; measure the memory.

    python -m tests.benchmarks.predict ENCODER DATA [--task sst] [--texts 2000] [--rounds 5] [--threads 1] [--lines 10000,1000000]

Prints texts a second of each, the median of the ratios round by round, and the peak memory of `regkit predict` for each
number of lines. The task's dev texts are repeated as often as need be. DATA is a folder of tasks; one step is trained.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path

import torch

import regkit
from regkit import Trained
from regkit.data.declare import find_tasks

Answer = Callable[[], list[str]]
KIB = 1024  # in which Linux counts


def train(encoder: Path, data: Path, task: str, run: Path) -> Trained:
    """A model of the task, whose answers mean nothing."""
    words = ["--encoder", str(encoder), "--data", str(data), "--tasks", task, "--steps", "1", "--output", str(run)]
    subprocess.run([sys.executable, "-m", "regkit", "train", *words], check=True, stdout=subprocess.DEVNULL)
    return regkit.load(run)


def pipeline_of(trained: Trained, task: str, texts: Sequence[str]) -> Answer:
    """What transformers' users do: a pipeline with a batch size, on a model of the same weights."""
    from transformers import AutoTokenizer, BertForSequenceClassification, pipeline

    assert trained.folder is not None
    width = trained.tasks[task].objective.width
    names = dict(enumerate(trained.classes(task)))
    model = BertForSequenceClassification.from_pretrained(trained.folder, num_labels=width, id2label=names)
    model.classifier.load_state_dict(trained.inference.model.heads[task].linear.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    longest = trained.tasks[task].reading.max_length
    ask = pipeline("text-classification", model=model, tokenizer=tokenizer, batch_size=32)
    return lambda: [each["label"] for each in ask(list(texts), truncation=True, max_length=longest)]


def seconds(answer: Answer) -> tuple[float, list[str]]:
    """Time it by the processor: others may be at work on this machine."""
    began = time.process_time()
    found = answer()
    return time.process_time() - began, found


def compare(trained: Trained, task: str, texts: Sequence[str], rounds: int) -> None:
    ways: dict[str, Answer] = {
        "regkit": lambda: list(map(str, trained.predict(task, texts))),
        "pipeline": pipeline_of(trained, task, texts),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        found = {}
        for name, way in ways.items():
            time_taken, found[name] = seconds(way)
            if number:  # the first round warms up
                taken[name].append(time_taken)
    alike = sum(one == other for one, other in zip(*found.values(), strict=True))
    for name, times in taken.items():
        print(f"{name}: {len(texts) / statistics.median(times):.0f} texts a second")
    ratio = statistics.median(one / other for one, other in zip(taken["pipeline"], taken["regkit"], strict=True))
    print(f"regkit is {ratio:.2f} times as fast; {alike} of {len(texts)} answers are the same")


def peak(run: Path, texts: Sequence[str], count: int, folder: Path) -> None:
    """Print the peak memory and the time of `regkit predict` on so many lines."""
    lines = folder / "lines.txt"
    with lines.open("w", encoding="utf8") as file:
        file.writelines(f"{text}\n" for text in islice(cycle(texts), count))
    command = [sys.executable, "-m", "regkit", "predict", str(run), str(lines), "--output", str(folder / "found.csv")]
    began = time.perf_counter()
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, command
    print(f"{count} lines: {usage.ru_maxrss * KIB / 1e6:.0f} MB at most, {time.perf_counter() - began:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Texts a second, and memory, of predictions.")
    parser.add_argument("encoder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="sst")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lines", default="10000,1000000", help="numbers of lines, parted by commas")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    table = find_tasks(chosen.data)[chosen.task].table("dev")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained = train(chosen.encoder, chosen.data, chosen.task, folder / "run")
        (column,) = trained.tasks[chosen.task].reading.text
        own = [row[column] for row in table.rows]
        compare(trained, chosen.task, list(islice(cycle(own), chosen.texts)), chosen.rounds)
        for count in filter(None, chosen.lines.split(",")):
            peak(folder / "run", own, int(count), folder)


if __name__ == "__main__":
    main()
