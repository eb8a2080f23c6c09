"""Answers: write what a run says of texts as CSV or JSON lines, to a file, a pipe or a terminal."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from regkit.base.errors import ConfigError
from regkit.base.files import naming_full, replacing
from regkit.cli.request import Record
from regkit.runs.trained import Label
from regkit.tasks.objectives import class_names
from regkit.tasks.task import Task

DIGITS = 6  # of a probability: float32 has no more

Write = Callable[[Sequence[Record], Mapping[str, "Answers"]], None]


@dataclass(frozen=True)
class Answers:
    """What a task says of each text of a block."""

    labels: list[Label]
    probabilities: list[list[float]] | None  # of each class; None for a task without classes


def csv_writer(file: IO[str], shown: Sequence[str], tasks: Sequence[Task]) -> Write:
    """Write the header of a CSV file, and make what writes blocks.

    It has a column for each label and probability.
    """
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(_header(shown, tasks))

    def write(block: Sequence[Record], answers: Mapping[str, Answers]) -> None:
        parts: list[list[list[object]]] = [[[row[column] for column in shown] for _, row in block]]
        for task in tasks:
            of = answers[task.name]
            chances = of.probabilities or [[] for _ in block]
            parts.append([[label, *map(_rounded, row)] for label, row in zip(of.labels, chances, strict=True)])
        rows.writerows([field for part in row for field in part] for row in zip(*parts, strict=True))

    return write


def _header(shown: Sequence[str], tasks: Sequence[Task]) -> list[str]:
    header = [*shown]
    for task in tasks:
        name = _name(task, shown)
        header += [name, *(f"{name}.{each}" for each in _classes(task))]
    return header


def json_writer(file: IO[str], shown: Sequence[str], tasks: Sequence[Task]) -> Write:
    """Make what writes blocks as JSON lines: the columns, and an object for each task."""

    def write(block: Sequence[Record], answers: Mapping[str, Answers]) -> None:
        for place, (_, row) in enumerate(block):
            found: dict[str, object] = {column: row[column] for column in shown}
            for task in tasks:
                found[_name(task, shown)] = _object(task, answers[task.name], place)
            file.write(json.dumps(found, ensure_ascii=False) + "\n")

    return write


def _object(task: Task, answers: Answers, place: int) -> dict[str, object]:
    label: dict[str, object] = {"label": answers.labels[place]}
    if answers.probabilities is None:
        return label
    rounded = map(_rounded, answers.probabilities[place])
    return label | {"probabilities": dict(zip(_classes(task), rounded, strict=True))}


def _rounded(probability: float) -> float:
    return float(f"{probability:.{DIGITS}g}")


def _name(task: Task, shown: Sequence[str]) -> str:
    """Name the answer of a task as the task, unless a column of the texts or a class is called so."""
    own = {task.name, *(f"{task.name}.{each}" for each in _classes(task))}
    return task.name if own.isdisjoint(shown) else f"{task.name}.label"


def _classes(task: Task) -> Sequence[str]:
    return class_names(task.objective)


@contextmanager
def written(output: Path, as_json: bool, tasks: Sequence[Task]) -> Iterator[IO[str]]:
    """Open the file of answers, which takes its name at the end, or a pipe.

    Raises ConfigError for a file that is there and holds something else than such answers.
    """
    if output.exists() and not output.is_file():
        with output.open("w", encoding="utf8") as pipe:
            yield pipe
        return
    if output.exists() and not (_holds_objects if as_json else _holds_table)(output, tasks):
        raise ConfigError(f"{output} exists, and holds no answers of these tasks; name another --output.")
    with replacing(output.resolve()) as file:
        yield file


def _holds_table(output: Path, tasks: Sequence[Task]) -> bool:
    """Whether a file is empty, or a table that ends with the columns of these answers.

    Where none of them is of a class, and the training data has labels in a column of that name, it may be either.
    """
    either = not any(map(_classes, tasks)) and any(task.name == task.reading.label for task in tasks)
    with suppress(ValueError, csv.Error), output.open(encoding="utf8", newline="") as file:
        header = next(csv.reader(file), [])
        return not header or (not either and _header(header[: -len(_header((), tasks))], tasks) == header)
    return False


def _holds_objects(output: Path, tasks: Sequence[Task]) -> bool:
    """Whether a file is empty, or begins with an object that has an answer of each of these tasks."""
    with suppress(ValueError, LookupError, TypeError), output.open(encoding="utf8") as file:
        line = file.readline()
        found = json.loads(line) if line else {}
        return not line or all("label" in (found.get(f"{task.name}.label") or found[task.name]) for task in tasks)
    return False


@contextmanager
def standard_output() -> Iterator[IO[str]]:
    """Open standard output for answers: in UTF-8, but on a terminal. If it is closed, they are lost."""
    if sys.stdout is None:
        with Path(os.devnull).open("w", encoding="utf8") as nowhere:
            yield nowhere
        return
    if not sys.stdout.isatty() and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf8")
    with naming_full("standard output"):
        yield sys.stdout
