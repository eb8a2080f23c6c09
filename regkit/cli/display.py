"""Display: show training as it goes, in a live line or, in a pipe, in plain lines."""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text
from torch import Tensor

from regkit.base.wording import percent
from regkit.hooks.spec import hookimpl
from regkit.tasks.batch import Batch
from regkit.tasks.task import Stage, Task
from regkit.training.effects import in_words
from regkit.training.evaluation import Evaluator, Scores

EVERY = {True: 0.25, False: 10.0}  # seconds between two updates, in place and in a pipe
MEMORY = 0.9  # how much of a shown loss is its past


@dataclass(frozen=True)
class Fitting:
    """Show the first of some lines, from long to short, that fits into the console's present width."""

    lines: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fitting = (line for line in self.lines if cell_len(line) <= options.max_width)
        yield Text(next(fitting, self.lines[-1]), no_wrap=True, overflow="ellipsis")


class CellLine:
    """Show a line in the output of a notebook's cell, in place, as `Live` does on a terminal."""

    def __init__(self) -> None:
        self.handle: Any = None

    def start(self) -> None:
        """Take the place below what the cell has printed."""
        from IPython.display import display  # there is one where this is asked for

        self.handle = display({"text/plain": ""}, raw=True, display_id=True)

    def update(self, shown: Fitting, *, refresh: bool) -> None:
        """Show another line; a browser wraps a long one."""
        if self.handle:
            self.handle.update({"text/plain": shown.lines[0]}, raw=True)

    def stop(self) -> None:
        """Remove the line."""
        if self.handle:
            self.handle.update({"text/plain": ""}, raw=True)


@dataclass
class Display:
    """Observe a run and print it. A context manager, so that the terminal is left as it was."""

    console: Console
    processes: int = 1  # each reads about as many tokens as this one
    evaluator: Evaluator = field(default_factory=Evaluator)  # that of the run, which knows how long scoring took
    live: Live | CellLine = field(init=False)
    means: dict[str, dict[str, float]] = field(default_factory=dict)  # by task and term, smoothed
    waiting: list[Mapping[str, Mapping[str, Tensor]]] = field(default_factory=list)
    chosen: Sequence[Task] = ()
    total: int = 0
    stage: str = ""
    steps: int = 0  # since the stage began or was gone on with, as are examples, tokens and seconds
    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    scoring: float = 0.0  # seconds of the evaluator's before the stage
    resumed: float = 0.0  # when the clock last went on
    shown: float = 0.0

    def __post_init__(self) -> None:
        self.in_place = self.console.is_terminal or self.console.is_jupyter
        self.live = (
            CellLine() if self.console.is_jupyter else Live(console=self.console, auto_refresh=False, transient=True)
        )

    def __enter__(self) -> "Display":
        if self.in_place:
            self.live.start()
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.live.stop()
        if kind is None:
            self._sum_up()

    @hookimpl(trylast=True)
    def prepare(self, stage: Stage) -> None:
        self._sum_up()
        self.stage, self.scoring = stage.name, self.evaluator.seconds
        self.means, self.waiting = {}, []
        self.steps, self.examples, self.tokens, self.seconds = 0, 0, 0, 0.0

    @hookimpl(wrapper=True)
    def embed(self, batch: Batch) -> Generator[None, Tensor, Tensor]:
        """Count tokens where a clean pass begins; nothing is changed."""
        self.tokens += len(batch.tokens) * self.processes
        return (yield)

    @hookimpl(wrapper=True)
    def choose_tasks(self, total_steps: int) -> Generator[None, Sequence[Task], Sequence[Task]]:
        """Note the tasks of a step and the time at which it begins; nothing is changed."""
        self.resumed, self.total = time.monotonic(), total_steps
        self.tokens = self.tokens if self.steps else 0  # not those of steps that were tried, or broken off
        self.chosen = yield
        return self.chosen

    @hookimpl(trylast=True)
    def after_step(self, step: int, losses: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.waiting.append(losses)
        self.steps += 1
        self.examples += sum(min(task.batch_size, len(task.splits["train"])) for task in self.chosen)
        self.seconds += time.monotonic() - self.resumed
        if time.monotonic() - self.shown >= EVERY[self.in_place]:
            self._show(step + 1)

    @hookimpl(trylast=True)
    def evaluated(self, stage: Stage, step: int, scores: Scores) -> None:
        if self.waiting:
            self._show(step)
        if scores:
            whole = f" of {self.total}" if self.total else ""  # not known where a resumed run is scored first
            when = f"after {step}{whole} steps" if step else "before training"
            print_scores(self.console, scores, f"{stage.name}, {when}: dev")

    def _sum_up(self) -> None:
        """Print how fast the stage that has ended was, and how much of its time went into scoring."""
        if not self.tokens:
            return
        if not self.steps:
            self.say(f"stage {self.stage}: no update was made; all were skipped")
            return
        speed = f"{self.tokens / max(self.seconds, 1e-9):.0f} tokens/s"
        scoring = self.evaluator.seconds - self.scoring
        share = percent(scoring / max(scoring + self.seconds, 1e-9))
        self.say(
            f"stage {self.stage}: {self.tokens} tokens in {_clock(self.seconds)}, {speed}; "
            f"scoring took {_clock(scoring)} more, {share} % of the whole"
        )

    def say(self, line: str) -> None:
        """Print a line above the live one."""
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _show(self, step: int) -> None:
        self.shown = time.monotonic()
        for losses in self.waiting:  # note: reading a loss waits for the GPU
            for task, terms in losses.items():
                means = self.means.setdefault(task, {})
                for term, value in terms.items():
                    means[term] = MEMORY * means.get(term, float(value)) + (1 - MEMORY) * float(value)
        self.waiting.clear()
        lines = self._lines(step)
        if self.in_place:
            self.live.update(Fitting(lines), refresh=True)
        else:
            self.say(lines[0])

    def _lines(self, step: int) -> list[str]:
        """Write the line in full, then ever shorter: without speed, without plugins' terms, without tasks."""
        done, left = f"step {step}/{self.total}", f"{_clock(self.seconds / self.steps * (self.total - step))} left"
        speed = f"{self.examples / max(self.seconds, 1e-9):.0f} examples/s"
        all_terms = [f"{task} {_terms(means)}" for task, means in self.means.items()]
        losses = [f"{task} {means['task']:.3f}" for task, means in self.means.items()]
        parts = [
            [done, *all_terms, speed, left],
            [done, *all_terms, left],
            *([done, *losses[:count], left] for count in reversed(range(len(losses) + 1))),
        ]
        return [" | ".join(each) for each in parts]


def print_scores(console: Console, scores: Scores, title: str) -> None:
    """Print scores: a table on a terminal and in a notebook, a line for each task in a pipe."""
    if not (console.is_terminal or console.is_jupyter):
        for task, values in scores.items():
            shown = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            console.print(f"{title}: {task}: {shown}", soft_wrap=True, highlight=False, markup=False)
        return
    table = Table("task", "scores", title=Text(title), title_justify="left")
    for task, values in scores.items():
        table.add_row(task, "  ".join(f"{name} {value:.3f}" for name, value in values.items()))
    console.print(table)


def print_runs(console: Console, scores: Mapping[str, Scores], split: str) -> None:
    """Print the scores of several runs beside each other.

    A terminal gets a table for each task, a pipe gets lines.
    """
    if not (console.is_terminal or console.is_jupyter):
        for name, each in scores.items():
            print_scores(console, each, f"{name}: {split}")
        return
    for task in dict.fromkeys(task for each in scores.values() for task in each):
        metrics = dict.fromkeys(metric for each in scores.values() for metric in each.get(task, ()))
        table = Table("run", *metrics, title=Text(f"{task}: {split}"), title_justify="left")
        for name, each in scores.items():
            values = each.get(task, {})
            table.add_row(Text(name), *(f"{values[metric]:.3f}" if metric in values else "" for metric in metrics))
        console.print(table)


def print_effects(console: Console, effects: Mapping[str, Any]) -> None:
    """Print what each term of the loss and each plugin did and cost, and the warnings, a line each."""
    for line in in_words(effects):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _terms(means: Mapping[str, float]) -> str:
    extra = [f"{term} {value:.2g}" for term, value in means.items() if term != "task"]
    return " + ".join([f"{means['task']:.3f}", *extra])


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
