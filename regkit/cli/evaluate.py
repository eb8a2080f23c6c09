"""The command `regkit eval`: score runs, or their ensemble, and write predictions."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from regkit.base.errors import ConfigError
from regkit.base.files import read_begin, write
from regkit.cli.display import print_runs, print_scores
from regkit.cli.report import Report, in_words
from regkit.cli.terminal import Terminal, aside, print_lines
from regkit.distributed.launch import find_device, joined
from regkit.runs.ensemble import Answered, answer, ensemble, mean_of
from regkit.tasks.names import Precision
from regkit.tasks.task import Split, Task
from regkit.training.caveats import left_out, one_sided, report
from regkit.training.evaluation import Scores
from regkit.training.intervals import intervals
from regkit.training.mistakes import mistakes


@dataclass(frozen=True)
class Wanted:
    """What the user asks of a run or an ensemble."""

    split: Split
    data: Path | None  # in place of the run's own
    predictions: Path | None  # the folder to write them to
    device: str
    precision: Precision
    factory: str | None
    as_json: bool
    in_full: bool  # with intervals and mistakes


@dataclass(frozen=True)
class Scored:
    """What is found out about the answers of a run or an ensemble."""

    scores: Scores
    reports: Mapping[str, Report]  # by task
    warnings: Sequence[str]  # what the scores do not show


def evaluate(runs: Sequence[Path | None], wanted: Wanted, together: bool) -> None:
    """Score the best checkpoints of runs, or their ensemble, on a split.

    Report and write predictions where asked.
    """
    if wanted.predictions and wanted.predictions.exists() and not wanted.predictions.is_dir():
        raise ConfigError(f"--predictions is {wanted.predictions}, which is no folder; name another.")
    with aside() if wanted.as_json else nullcontext(), joined(find_device(wanted.device)) as processes:
        members = [
            answer(
                run,
                wanted.split,
                data=wanted.data,
                device=wanted.device,
                precision=wanted.precision,
                factory=wanted.factory,
                keep_texts=wanted.in_full or together,
                processes=processes,
            )
            for run in runs
        ]
    if not processes.first:
        return
    if len(members) == 1:
        _tell_one(members[0], wanted)
    elif together:
        _tell_ensemble(members, wanted)
    else:
        _tell_each(members, wanted)


def _tell_one(answered: Answered, wanted: Wanted) -> None:
    found = _judge(answered, wanted)
    if wanted.as_json:
        _print_json(_as_json(answered, found, wanted))
        return
    console = Terminal()
    if found.reports:
        _print_reports(console, answered, found)
    elif found.scores:
        print_scores(console, found.scores, f"{answered.name}: {wanted.split}")
    print_lines(console, _remarks(answered, found, wanted))


def _tell_ensemble(members: Sequence[Answered], wanted: Wanted) -> None:
    """Score an ensemble, beside each of its members and their mean."""
    mixed = ensemble(members, wanted.split)
    found = _judge(mixed, wanted)
    alone = {member.name: member.scores(wanted.split) for member in members}
    mean = mean_of(list(alone.values()))
    if wanted.as_json:
        _print_json(_as_json(mixed, found, wanted) | {"members": alone, "mean": mean})
        return
    console = Terminal()
    rows = alone | {f"mean of {len(members)} runs": mean, mixed.name: found.scores}
    print_runs(console, rows, wanted.split)
    _print_reports(console, mixed, found)
    print_lines(console, _remarks(mixed, found, wanted))


def _tell_each(members: Sequence[Answered], wanted: Wanted) -> None:
    """Score several runs beside each other."""
    found = {member.name: _judge(member, wanted) for member in members}
    if wanted.as_json:
        _print_json({"runs": {member.name: _as_json(member, found[member.name], wanted) for member in members}})
        return
    console = Terminal()
    print_runs(console, {name: each.scores for name, each in found.items()}, wanted.split)
    for member in members:
        lines = [f"{member.name}: {line}" for line in _remarks(member, found[member.name], wanted)]
        print_lines(console, lines)


def _judge(answered: Answered, wanted: Wanted) -> Scored:
    """Score what was answered, and write predictions where asked."""
    split, scored = wanted.split, answered.labelled(wanted.split)
    if wanted.predictions:
        for task in answered.tasks:
            _check_predictions(wanted.predictions / _file(task, split), answered.columns[task.name])
    scores = answered.scores(split)
    reports: dict[str, Report] = {}
    warnings: list[str] = []
    for whole, task in zip(answered.tasks, scored.tasks, strict=True):
        output, labels = scored.outputs[task.name], task.splits[split].labels
        if wanted.in_full and labels is not None:
            within = intervals(task.objective, output, labels)
            reports[task.name] = {"intervals": within, **mistakes(task, split, output)}
        if wanted.predictions:
            columns = answered.columns[task.name]
            write_predictions(wanted.predictions, whole, split, answered.outputs[task.name], columns)
        warnings += filter(None, [one_sided(task, split, output)])
    return Scored(scores, reports, warnings)


def _as_json(answered: Answered, found: Scored, wanted: Wanted) -> dict[str, Any]:
    full = {"report": found.reports} if wanted.in_full else {}
    return report(wanted.split, found.scores, [*answered.notes, *found.warnings]) | full


def _print_json(value: object) -> None:
    Terminal().out(json.dumps(value, indent=2), highlight=False)


def _print_reports(console: Terminal, answered: Answered, found: Scored) -> None:
    for name, each in found.reports.items():
        print_lines(console, in_words(name, found.scores[name], each, answered.columns[name][0]))


def _remarks(answered: Answered, found: Scored, wanted: Wanted) -> list[str]:
    missing = _missing(answered.tasks, wanted.split, wanted.predictions)
    return [*answered.notes, *missing, *(f"warning: {said}" for said in found.warnings)]


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
    try:
        write(folder / _file(task, split), text.getvalue())
    except OSError:
        with suppress(OSError):  # it holds other predictions
            folder.rmdir()
        raise


def _file(task: Task, split: Split) -> str:
    return f"{task.name}-{split}.csv"


def _check_predictions(file: Path, columns: Sequence[str]) -> None:
    """Raise ConfigError where something else than predictions is, such as the table that was read."""
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(columns)
    if file.exists() and read_begin(file, len(header.getvalue().encode())) != header.getvalue():
        raise ConfigError(f"{file} exists, and holds no predictions of this run; name another folder.")
