"""Logs: read the series that a run has logged, without torch.

The steps of a later stage go on where those of the one before ended, so a run has one axis.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regkit.base.files import check_plain
from regkit.page.charts.figures import Point

TASK = "task"  # the term that is the task's own loss
CORE = "regkit"  # whose time it is when no plugin works: as in regkit.hooks.stopwatch, which imports torch

Series = dict[Any, list[Point]]


def _series() -> Series:
    return defaultdict(list)


@dataclass
class Log:
    """What a run has logged, as points over its updates."""

    losses: Series = field(default_factory=_series)  # by task and term
    scores: Series = field(default_factory=_series)  # of dev, by task and metric
    samples: dict[Any, tuple[float, int]] = field(default_factory=dict)  # before training, by task and metric: score,
    # and of how many examples
    rates: list[Point] = field(default_factory=list)
    shares: Series = field(default_factory=_series)  # of the gradient, by task and term
    times: Series = field(default_factory=_series)  # shares of a measured step's time, by plugin
    passes: Series = field(default_factory=_series)  # over those of a plain step, by plugin
    measures: Series = field(default_factory=_series)  # by plugin, name and task
    cosines: Series = field(default_factory=_series)  # between the gradients of two tasks
    updates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # of each task, their steps
    skipped: list[tuple[float, list[str]]] = field(default_factory=list)
    stages: list[tuple[float, str]] = field(default_factory=list)  # each with the step at which it begins
    smaller: list[tuple[float, int]] = field(default_factory=list)  # tokens of a micro-batch, from a step on
    broken: int = 0  # lines that cannot be read
    infinite: int = 0  # numbers that are not finite
    end: float = 0.0  # the last step

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a line of the log. A line that holds something else raises one of Python's own errors."""
        stage, step = str(record["stage"]), float(record["step"])
        if not math.isfinite(step):
            raise ValueError("a step is a number")
        if not self.stages or self.stages[-1][1] != stage:
            self.stages.append((self.end, stage))
        at = self.stages[-1][0] + step
        if "losses" in record:
            at += 1
            self._update(at, record)
        elif "scores" in record:
            for task, scores in record["scores"]["dev"].items():
                self._all(self.scores, at, {(task, name): value for name, value in scores.items()})
        elif "sample" in record:
            self._sample(record)
        elif "skipped" in record:
            at += 1
            self.skipped.append((at, [_suspect(each) for each in record["skipped"]]))
        elif "micro_batch_tokens" in record:
            self.smaller.append((at, int(record["micro_batch_tokens"])))
        self.end = max(self.end, at)

    def _sample(self, record: Mapping[str, Any]) -> None:
        if len(self.stages) > 1:
            return  # of a later stage, which does not begin before training
        for task, scores in record["sample"]["dev"].items():
            for name, value in scores.items():
                if math.isfinite(value):
                    self.samples[task, name] = float(value), int(record["examples"]["dev"][task])

    def _update(self, at: float, record: Mapping[str, Any]) -> None:
        self.rates.append((at, float(record["learning_rate"])))
        for task, terms in record["losses"].items():
            self.updates[task].append(at)
            self._all(self.losses, at, {(task, term): value for term, value in terms.items()})
        if effects := record.get("effects"):
            self._measured(at, effects)

    def _measured(self, at: float, effects: Mapping[str, Any]) -> None:
        for task, terms in effects["terms"].items():
            whole = sum(term.get("gradient", 0.0) for term in terms.values())
            shares = {
                (task, name): term.get("gradient", 0.0) / whole if whole else float(name == TASK)
                for name, term in terms.items()
            }
            self._all(self.shares, at, shares)
        for task, plugins in effects["measures"].items():
            for plugin, values in plugins.items():
                self._all(self.measures, at, {(plugin, name, task): value for name, value in values.items()})
        self._all(self.cosines, at, effects["cosines"])
        seconds, passes = effects["seconds"], effects["passes"]
        if spent := sum(seconds.values()):
            self._all(self.times, at, {name: value / spent for name, value in seconds.items() if name != CORE})
        if plain := passes.get(CORE):
            self._all(self.passes, at, {name: value / plain for name, value in passes.items() if name != CORE})

    def _all(self, series: Series, at: float, values: Mapping[Any, Any]) -> None:
        for key, value in values.items():
            if math.isfinite(value):
                series[key].append((at, float(value)))
            else:
                self.infinite += 1


def _suspect(found: Mapping[str, Any]) -> str:
    """Say in a sentence what was not finite in a step."""
    what = f"the {found['what']} of '{found['term']}'" if found.get("term") else f"the {found['what']}"
    tasks = " and ".join(f"'{name}'" for name in found["tasks"])
    rows = ", ".join(str(row) for row in found["rows"][:5])
    more = f" and {len(found['rows']) - 5} more" if len(found["rows"]) > 5 else ""
    return f"{what} in task {tasks} is not finite; rows {rows}{more}"


def read_log(path: Path) -> Log:
    """Read a run's log.

    What cannot be read is counted and left out: a run that goes on may just write a line.
    """
    log = Log()
    for line in _lines(path):
        try:
            log.add(json.loads(line))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            log.broken += 1
    return log


def _lines(path: Path) -> Iterator[bytes]:
    with suppress(OSError, ValueError):  # no log yet, or none that is a file
        check_plain(path)
        with path.open("rb") as file:
            yield from file


def turns(log: Log, windows: int = 24) -> dict[str, list[Point]]:
    """Compute each task's share of the updates over windows of the run.

    In each window all tasks can have their turns.
    """
    turn = 4 * max(1, len(log.updates))
    width = turn * max(1, math.ceil(log.end / windows / turn))
    counts = {task: Counter(int(at - 1) // width for at in steps) for task, steps in log.updates.items()}
    whole = Counter(int(at - 1) // width for at, _ in log.rates)
    return {
        task: [((window + 0.5) * width, found[window] / whole[window]) for window in sorted(whole)]
        for task, found in counts.items()
    }
