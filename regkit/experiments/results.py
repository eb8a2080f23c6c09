"""Results: what one cell of a study came to - a row's run with one seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Literal

from regkit.tasks.names import Split


@dataclass(frozen=True)
class Result:
    """What is known of one run, finished or not."""

    row: str
    seed: int
    state: Literal["finished", "failed", "running", "waiting"]
    scores: Mapping[Split, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)  # by split, task and metric
    mains: Mapping[str, tuple[str, bool]] = field(default_factory=dict)  # by task: deciding metric, less is better
    seconds: float = nan  # of training
    operations: float = nan  # of a step, over those of a plain one
    memory: float = nan  # bytes, at the peak
    effects: Sequence[str] = ()  # lines of the effect meter
    error: str = ""  # the sentence of a run that failed
    folder: Path | None = None  # of the run, if its study knows one
