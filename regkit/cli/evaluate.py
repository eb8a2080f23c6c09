"""The command `regkit eval`: score a run's best checkpoint, and write predictions."""

import csv
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from regkit.base.files import write
from regkit.cli.display import print_scores
from regkit.cli.report import Report, in_words
from regkit.cli.terminal import Terminal, print_lines
from regkit.distributed.launch import find_device, joined
from regkit.runs import folders
from regkit.runs.finished import labelled, load_run
from regkit.tasks.task import Split, Task
from regkit.training.caveats import left_out, one_sided, report
from regkit.training.evaluation import Evaluator, Scores, score
from regkit.training.intervals import intervals
from regkit.training.mistakes import mistakes


def evaluate(
    run: Path | None,
    split: Split,
    data: Path | None,
    predictions: Path | None,
    device: str,
    factory: str | None,
    as_json: bool,
    in_full: bool,
) -> None:
    """Score a run's best checkpoint on a split; report and write predictions where asked."""
    folder = folders.find_run(run)
    with joined(find_device(device)) as processes:
        finished = load_run(folder, split, data=data, device=device, factory=factory, keep_texts=in_full)
        evaluator = Evaluator(processes=processes)
        found = {}
        for task in finished.tasks:
            work = partial(evaluator.outputs, finished.model, task, split)
            found[task.name] = evaluator.fit.until_it_fits(work, f"on task '{task.name}'")
    if not processes.first:
        return
    scores: Scores = {}
    reports: dict[str, Report] = {}
    caveats: list[str] = []
    for task in finished.tasks:
        scored, outputs = labelled(task, split, found[task.name])
        if (labels := scored.splits[split].labels) is not None:
            scores[task.name] = score(scored, outputs, labels)
            if in_full:
                within = intervals(task.objective, outputs, labels)
                reports[task.name] = {"intervals": within, **mistakes(scored, split, outputs)}
        if predictions:
            write_predictions(predictions, task, split, found[task.name], finished.columns[task.name])
        caveats += filter(None, [one_sided(scored, split, outputs)])
    console = Terminal()
    if as_json:
        full = {"report": reports} if in_full else {}
        console.out(json.dumps(report(split, scores, [*finished.notes, *caveats]) | full, indent=2), highlight=False)
        return
    if in_full:
        print_lines(console, [line for name, each in reports.items() for line in in_words(name, scores[name], each)])
    elif scores:
        print_scores(console, scores, f"{folder}: {split}")
    print_lines(
        console,
        [*finished.notes, *_missing(finished.tasks, split, predictions), *(f"warning: {said}" for said in caveats)],
    )


def _missing(tasks: Sequence[Task], split: Split, predictions: Path | None) -> list[str]:
    """Say which tasks, and which of their scores, the split cannot score."""
    where = f"predictions are in {predictions}" if predictions else "use --predictions DIR to write predictions"
    lines = []
    for task in tasks:
        if task.splits[split].labels is None:
            lines.append(f"{task.name}: the {split} split has no labels; {where}.")
        elif said := left_out(task, split):
            lines.append(f"{task.name}: {said}")
    return lines


def write_predictions(folder: Path, task: Task, split: Split, output: Tensor, columns: Sequence[str]) -> None:
    """Write `TASK-SPLIT.csv`: the name of each example, and its predicted label as the data writes it.

    With a column for each class, each has its number.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    for name, value in zip(task.splits[split].ids, task.objective.prediction(output).tolist(), strict=True):
        cells = [f"{each:.6g}" for each in value] if len(columns) > 2 else [task.objective.text(value)]
        rows.writerow([name, *cells])
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{task.name}-{split}.csv", text.getvalue())
