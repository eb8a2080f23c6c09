"""The command `regkit predict`: ask a run about new texts, block by block, in flat memory."""

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn
from torch import Tensor

from regkit.base.errors import DataError, StoppedError
from regkit.cli.answers import Answers, csv_writer, json_writer, standard_output, written
from regkit.cli.request import Record, Request
from regkit.cli.terminal import Terminal, aside, print_line, print_lines, silence
from regkit.data.formats.records import Nested
from regkit.runs.trained import WINDOW, Trained, labels, load
from regkit.tasks.names import Precision
from regkit.tasks.objectives import Probabilistic
from regkit.tasks.task import Task


def load_aside(folder: Path, device: str, precision: Precision, tokens: int | None, factory: str | None) -> Trained:
    """Load the model of a checkpoint. What plugins print meanwhile goes to standard error."""
    with aside():
        return load(folder, device=device, factory=factory, precision=precision, micro_batch_tokens=tokens)


def predict(trained: Trained, request: Request, output: Path | None, as_json: bool) -> None:
    """Write the answers of a run, each with its text beside it. Raises DataError for what is no text."""
    console = Terminal(stderr=True)
    print_lines(console, [*request.notes, *([f"answered in {trained.precision}"] if trained.precision.why else [])])
    asking = Asking(trained, request)
    try:
        with (
            written(output, as_json, asking.tasks) if output else standard_output() as file,
            _progress(console, output) as show,
        ):
            write = (json_writer if as_json else csv_writer)(file, request.shown, asking.tasks)
            for block in _blocks(asking.kept(request.records)):
                with aside():
                    answers = asking.answers(block)
                write(block, answers)
                file.flush()
                show(asking.summary())
            if not asking.count:
                raise DataError(f"{request.stream.name} has no texts: every row is left out.")
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
    left: int = 0  # rows without text
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        known = self.trained.tasks
        self.tasks = [
            replace(known[name], reading=replace(known[name].reading, text=tuple(columns)))
            for name, columns in self.request.columns.items()
        ]

    def kept(self, records: Iterable[Record]) -> Iterator[Record]:
        """Leave out the records without text, where that is asked."""
        for record in records:
            if self.request.skip_empty and not all(record[1][name].strip() for name in self.request.read):
                self.left += 1
            else:
                yield record

    def answers(self, block: Sequence[Record]) -> dict[str, Answers]:
        """Ask all tasks about the texts of a block."""
        columns = {name: [self._text(record, name) for record in block] for name in self.request.read}
        outputs, truncated = self.trained.inference.outputs(self.tasks, columns)
        self.count += len(block)
        self.truncated += truncated
        return {task.name: _answers(task, outputs[task.name]) for task in self.tasks}

    def summary(self) -> str:
        """Say how many texts were answered for, how fast, and how many of them were cut."""
        speed = self.count / max(time.monotonic() - self.began, 1e-9)
        cut = f"{self.truncated} longer than is read, and cut" if self.truncated else "none cut"
        left = f"{self.left} rows without text left out, " if self.left else ""
        return f"{self.count} texts, {left}{cut}, {speed:.0f} a second"

    def _text(self, record: Record, column: str) -> str:
        line, row = record
        if isinstance(row[column], Nested) or not row[column].strip():
            empty, stream = not row[column].strip(), self.request.stream
            found = "empty; --skip-empty leaves such rows out" if empty else "no text, but a list or object"
            raise DataError(f"{stream.name}, {stream.unit} {line}: {column} is {found}.")
        return row[column]


def _answers(task: Task, output: Tensor) -> Answers:
    objective = task.objective
    found = objective.probabilities(output).tolist() if isinstance(objective, Probabilistic) else None
    return Answers(labels(objective, output), found)


def _blocks(records: Iterator[Record]) -> Iterator[list[Record]]:
    while block := list(islice(records, WINDOW)):
        yield block


@contextmanager
def _progress(console: Console, output: Path | None) -> Iterator[Callable[[str], None]]:
    """Show on a terminal how far it is, unless the answers are printed there."""
    if not console.is_terminal or (output is None and sys.stdout and sys.stdout.isatty()):
        yield lambda said: None
        return
    with Progress(TextColumn("{task.description}"), console=console, transient=True) as progress:
        line = progress.add_task("")
        yield lambda said: progress.update(line, description=said)
