"""The command `regkit eval`: score a run's best checkpoint, and write predictions."""

import csv
import io
import json
from functools import partial
from pathlib import Path

from torch import Tensor

from regkit.base.files import write
from regkit.cli.display import print_scores
from regkit.cli.terminal import Terminal, print_lines
from regkit.distributed.launch import find_device, joined
from regkit.runs import folders
from regkit.runs.finished import load_run
from regkit.tasks.task import Split, Task
from regkit.training.evaluation import Evaluator, Scores, score


def evaluate(
    run: Path | None, split: Split, data: Path | None, predictions: Path | None, device: str, as_json: bool
) -> None:
    """Score a run's best checkpoint on a split, and write predictions where asked."""
    folder = folders.find_run(run)
    with joined(find_device(device)) as processes:
        finished = load_run(folder, split, data=data, device=device)
        evaluator = Evaluator(processes=processes)
        found = {}
        for task in finished.tasks:
            work = partial(evaluator.outputs, finished.model, task, split)
            found[task.name] = evaluator.fit.until_it_fits(work, f"on task '{task.name}'")
    if not processes.first:
        return
    scores: Scores = {}
    for task in finished.tasks:
        output = found[task.name]
        labels = task.splits[split].labels
        if labels is not None:
            scores[task.name] = score(task, output, labels)
        if predictions:
            write_predictions(predictions, task, split, output, finished.columns[task.name])
    console = Terminal()
    if as_json:
        console.out(json.dumps({split: scores}, indent=2), highlight=False)
        return
    if scores:
        print_scores(console, scores, f"{folder}: {split}")
    for name in [task.name for task in finished.tasks if task.name not in scores]:
        said = f"predictions are in {predictions}" if predictions else "use --predictions DIR to write predictions"
        print_lines(console, [f"{name}: the {split} split has no labels; {said}."])


def write_predictions(folder: Path, task: Task, split: Split, output: Tensor, columns: tuple[str, str]) -> None:
    """Write `TASK-SPLIT.csv`: the name of each example, and its predicted label as the data writes it."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    for name, value in zip(task.splits[split].ids, task.objective.prediction(output).tolist(), strict=True):
        rows.writerow([name, task.objective.text(value)])
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{task.name}-{split}.csv", text.getvalue())
