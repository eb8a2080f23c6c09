"""The command `regkit predict`: ask a run about new texts, block by block, in flat memory."""

import csv
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import Progress, TextColumn
from torch import Tensor

from regkit.base.errors import ConfigError, DataError, StoppedError
from regkit.base.files import naming_full, replacing
from regkit.cli.request import Record, Request
from regkit.cli.terminal import Terminal, aside, print_line, print_lines, silence
from regkit.data.formats.records import Nested
from regkit.runs.trained import WINDOW, Label, Trained, labels, load
from regkit.tasks.names import Precision
from regkit.tasks.objectives import Probabilistic, class_names
from regkit.tasks.task import Task

DIGITS = 6  # of a probability: float32 has no more

Write = Callable[[Sequence[Record], Mapping[str, "Answers"]], None]


@dataclass(frozen=True)
class Answers:
    """What a task says of each text of a block."""

    labels: list[Label]
    probabilities: list[list[float]] | None  # of each class; None for a task without classes


def load_aside(folder: Path, device: str, precision: Precision, tokens: int | None, factory: str | None) -> Trained:
    """Load the model of a checkpoint. What plugins print meanwhile goes to standard error."""
    with aside():
        return load(folder, device=device, factory=factory, precision=precision, micro_batch_tokens=tokens)


def predict(trained: Trained, request: Request, output: Path | None, as_json: bool) -> None:
    """Write the answers of a run, each with its text beside it. Raises DataError for a text that is empty."""
    console = Terminal(stderr=True)
    print_lines(console, [*request.notes, *([f"answered in {trained.precision}"] if trained.precision.why else [])])
    asking = Asking(trained, request)
    try:
        with (
            _written(output, as_json, asking) if output else _standard_output() as file,
            _progress(console, output) as show,
        ):
            write = (json_writer if as_json else csv_writer)(file, request.shown, asking.tasks)
            for block in _blocks(request.records):
                with aside():
                    answers = asking.answers(block)
                write(block, answers)
                file.flush()
                show(asking.summary())
    except KeyboardInterrupt:
        left = f"{output} was not written" if output else "what was printed is whole"
        raise StoppedError(f"interrupted after {asking.count} texts; {left}.", signal.SIGINT) from None
    except BrokenPipeError:  # `regkit predict | head`: nobody reads any more
        silence(sys.stdout)
        return
    print_lines(console, list(request.stream.notes()))
    print_line(console, f"{asking.summary()}{f', in {output}' if output else ''}")


@dataclass
class Asking:
    """A run that is asked block by block, and what there is to say about it."""

    trained: Trained
    request: Request
    count: int = 0  # texts, or pairs of texts
    truncated: int = 0
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        known = self.trained.tasks
        self.tasks = [
            replace(known[name], reading=replace(known[name].reading, text=tuple(columns)))
            for name, columns in self.request.columns.items()
        ]

    def answers(self, block: Sequence[Record]) -> dict[str, Answers]:
        """Ask all tasks about the texts of a block."""
        columns = {name: [self._text(record, name) for record in block] for name in self._read()}
        outputs, truncated = self.trained.inference.outputs(self.tasks, columns)
        self.count += len(block)
        self.truncated += truncated
        return {task.name: _answers(task, outputs[task.name]) for task in self.tasks}

    def summary(self) -> str:
        """Say how many texts were answered for, how fast, and how many of them were cut."""
        speed = self.count / max(time.monotonic() - self.began, 1e-9)
        cut = f"{self.truncated} longer than is read, and cut" if self.truncated else "none cut"
        return f"{self.count} texts, {cut}, {speed:.0f} a second"

    def _read(self) -> set[str]:
        return {name for columns in self.request.columns.values() for name in columns}

    def _text(self, record: Record, column: str) -> str:
        line, row = record
        if isinstance(row[column], Nested) or not row[column].strip():
            stream, found = self.request.stream, "no text, but a list or object" if row[column].strip() else "empty"
            raise DataError(f"{stream.name}, {stream.unit} {line}: {column} is {found}.")
        return row[column]


def _answers(task: Task, output: Tensor) -> Answers:
    objective = task.objective
    found = objective.probabilities(output).tolist() if isinstance(objective, Probabilistic) else None
    return Answers(labels(objective, output), found)


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
    """Name the answer of a task: as the task, unless a column of the texts is called so."""
    return f"{task.name}.label" if task.name in shown else task.name


def _classes(task: Task) -> Sequence[str]:
    return class_names(task.objective)


def _blocks(records: Iterator[Record]) -> Iterator[list[Record]]:
    while block := list(islice(records, WINDOW)):
        yield block


@contextmanager
def _written(output: Path, as_json: bool, asking: Asking) -> Iterator[IO[str]]:
    """Open the file of answers, which takes its name at the end, or a pipe.

    Raises ConfigError for a file that is there and holds something else than such answers.
    """
    if output.exists() and not output.is_file():
        with output.open("w", encoding="utf8") as pipe:
            yield pipe
        return
    if output.exists() and not (_holds_objects if as_json else _holds_table)(output, asking.tasks):
        raise ConfigError(f"{output} exists, and holds no answers of these tasks; name another --output.")
    with replacing(output.resolve()) as file:
        yield file


def _holds_table(output: Path, tasks: Sequence[Task]) -> bool:
    """Whether a file is empty, or a table that ends with the columns of these answers."""
    with suppress(ValueError, csv.Error), output.open(encoding="utf8", newline="") as file:
        header = next(csv.reader(file), [])
        return not header or _header(header[: -len(_header((), tasks))], tasks) == header
    return False


def _holds_objects(output: Path, tasks: Sequence[Task]) -> bool:
    """Whether a file is empty, or begins with an object that has an answer of each of these tasks."""
    with suppress(ValueError, LookupError, TypeError), output.open(encoding="utf8") as file:
        line = file.readline()
        found = json.loads(line) if line else {}
        return not line or all("label" in (found.get(f"{task.name}.label") or found[task.name]) for task in tasks)
    return False


@contextmanager
def _standard_output() -> Iterator[IO[str]]:
    """Open standard output for answers: in UTF-8, as in a file, but on a terminal. Where it is closed, they are lost."""
    if sys.stdout is None:
        with Path(os.devnull).open("w", encoding="utf8") as nowhere:
            yield nowhere
        return
    if not sys.stdout.isatty() and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf8")
    with naming_full("standard output"):
        yield sys.stdout


@contextmanager
def _progress(console: Console, output: Path | None) -> Iterator[Callable[[str], None]]:
    """Show on a terminal how far it is, unless the answers are printed there."""
    if not console.is_terminal or (output is None and sys.stdout and sys.stdout.isatty()):
        yield lambda said: None
        return
    with Progress(TextColumn("{task.description}"), console=console, transient=True) as progress:
        line = progress.add_task("")
        yield lambda said: progress.update(line, description=said)
