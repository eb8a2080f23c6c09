"""Request: what `regkit predict` is asked - which run, which texts, which tasks.

Found before torch is imported.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from regkit.base.errors import ConfigError, DataError, RunError, nearest
from regkit.base.files import follow
from regkit.data.formats.records import first_duplicate, has_column
from regkit.data.stream import Lines, Stream
from regkit.tasks.description import Description
from regkit.tasks.reading import Layout

FORMS = {".csv": False, ".jsonl": True}  # endings of the output: whether it is JSON lines
Record = tuple[int, dict[str, str]]  # the line, and its fields by column


@dataclass
class Request:
    """The texts, and the tasks that answer for them."""

    stream: Stream
    columns: Mapping[str, Sequence[str]]  # by task: the columns that it reads
    ids: Sequence[str]  # the columns that name an example
    notes: Sequence[str]  # what the user must know
    also: Sequence[str] = ()  # other columns that the user wants beside the answers
    skip_empty: bool = False  # leave out records without text; else they are an error
    records: Iterator[Record] = field(default_factory=lambda: iter(()))

    @property
    def read(self) -> list[str]:
        """The columns of texts."""
        return list(dict.fromkeys(chain(*self.columns.values())))

    @property
    def shown(self) -> list[str]:
        """The columns that stand beside the answers: names of examples, texts, and what else was asked for."""
        return list(dict.fromkeys([*self.ids, *self.read, *self.also]))


def which(first: Path | None, second: Path | None) -> tuple[Path | None, Path | None]:
    """Tell run and file apart, of which either may be left out.

    None stands for the latest run, and for standard input. Raises ConfigError where nothing is piped in.
    """
    run, file = (None, first) if second is None and _is_file(first) else (first, second)
    if file is None and (sys.stdin is None or sys.stdin.isatty()):
        raise ConfigError("there are no texts; name a file of them, or pipe them in.")
    return run, None if str(file) == "-" else file


def _is_file(path: Path | None) -> bool:
    """Tell whether the one path that was given is of texts: not a folder, and there or with an ending."""
    if path is None or follow(path).is_dir():
        return False
    return str(path) == "-" or path.exists() or bool(path.suffix)


def check_output(output: Path | None, as_json: bool, file: Path | None) -> bool:
    """Tell whether the output is JSON lines.

    Raises ConfigError if it cannot be written, or contradicts --json.
    """
    if output is None:
        return as_json
    ending = output.suffix.lower()
    if ending not in FORMS:
        raise ConfigError(f"--output is {output}, whose ending says no form. {nearest(ending, FORMS)}")
    if as_json and not FORMS[ending]:
        raise ConfigError(f"--json writes JSON lines, and --output is {output}; name a file that ends in .jsonl.")
    if file and output.exists() and file.exists() and output.samefile(file):
        raise ConfigError(f"--output is {output}, the file that is read; name another.")
    if output.is_dir():
        raise ConfigError(f"--output is {output}, which is a folder; name a file.")
    if not output.parent.is_dir():
        raise ConfigError(f"--output is {output}, and there is no folder {output.parent}.")
    return FORMS[ending]


def choose(known: Mapping[str, Description], names: Sequence[str], text: Sequence[str]) -> dict[str, Description]:
    """Choose the tasks to ask: those named, or all.

    With columns of the text named, they are those that read as many. Raises RunError for a run without tasks, and ConfigError
    for a name or a number of columns that no task has.
    """
    if not known:
        raise RunError("the run was pretrained, and has no task to ask; fine-tune it: regkit train --encoder RUN.")
    for name in names:
        if name not in known:
            raise ConfigError(f"the run has no task '{name}'. {nearest(name, known)}")
    chosen = {name: known[name] for name in names or known}
    if not text:
        return chosen
    if (twice := first_duplicate(text)) is not None:
        raise ConfigError(f"--text names column '{twice}' twice; a pair has two columns.")
    fitting = {name: task for name, task in chosen.items() if task.texts == len(text)}
    if not fitting or (names and len(fitting) < len(chosen)):
        reads = ", ".join(
            f"{name} reads {'a pair' if task.texts == 2 else 'one text'}" for name, task in chosen.items()
        )
        raise ConfigError(f"--text names {len(text)} column{'s' * (len(text) > 1)}: {' and '.join(text)}; {reads}.")
    return fitting


def layout_of(tasks: Mapping[str, Description]) -> Layout:
    """Choose how a table is read: as those of these tasks were, where they agree."""
    layouts = {task.layout for task in tasks.values()}
    return layouts.pop() if len(layouts) == 1 else Layout()


def request(
    stream: Stream,
    tasks: Mapping[str, Description],
    text: Sequence[str],
    also: Sequence[str] = (),
    *,
    named: bool,
    skip_empty: bool = False,
) -> Request:
    """Find the columns that each task reads, and read the first record, so that a mistake is said at once.

    Raises DataError if a column is missing that is wanted beside the answers, or of a task that is named, or of all.
    """
    if isinstance(stream, Lines):
        columns = _of_lines(stream, tasks, named)
    else:
        wanted = {name: tuple(text) or task.columns for name, task in tasks.items()}
        columns = _of_table(stream, wanted, named or bool(text))
    missing = [name for name in tasks if name not in columns]
    notes = [f"{stream.name}: {stream.form}"]
    if missing:
        notes.append(f"not asked, because what they read is not there: {', '.join(missing)}")
    if absent := _absent(stream, also):
        raise DataError(
            f"{stream.name} has no column '{absent}', which --also names. {nearest(absent, stream.columns)}"
        )
    ids = [each for name in columns if (each := tasks[name].id) and each in stream.columns]
    found = Request(stream, columns, ids, notes, also, skip_empty)
    found.records = _begun(stream, found.shown)
    return found


def _of_lines(stream: Stream, tasks: Mapping[str, Description], named: bool) -> dict[str, Sequence[str]]:
    """Let every task of one text read the lines."""
    found = {name: stream.columns for name, task in tasks.items() if task.texts == 1}
    if not found or (named and len(found) < len(tasks)):
        pair = next(name for name, task in tasks.items() if task.texts == 2)
        raise DataError(
            f"{stream.name} is read as {stream.form}, and task '{pair}' reads pairs; give a table with a header."
        )
    return found


def _of_table(stream: Stream, wanted: Mapping[str, Sequence[str]], named: bool) -> dict[str, Sequence[str]]:
    """Keep the tasks whose columns the table has; all of them, if they are `named`."""
    found = {name: columns for name, columns in wanted.items() if not _absent(stream, columns)}
    if found and (not named or len(found) == len(wanted)):
        return found
    name, absent = next((name, _absent(stream, columns)) for name, columns in wanted.items() if name not in found)
    remedy = f"task '{name}' reads it, and --text names another"
    hint = getattr(stream, "hint", "")  # of a file that has no header, by its looks
    raise DataError(f"{stream.name} has no column '{absent}'; {remedy}. {hint or nearest(absent, stream.columns)}")


def _absent(stream: Stream, columns: Iterable[str]) -> str:
    return next((column for column in columns if not has_column(stream.columns, column)), "")


def _begun(stream: Stream, columns: Sequence[str]) -> Iterator[Record]:
    records = stream.records(columns)
    first = next(records, None)
    if first is None:
        raise DataError(f"{stream.name} has no texts.")
    return chain([first], records)
