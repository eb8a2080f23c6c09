"""Studies: results of cells as a study leaves them, without runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from regkit.experiments.study.outcome import read_outcome
from regkit.experiments.study.results import Result
from regkit.runs import evidence
from regkit.runs.evidence import Evidence
from regkit.tasks.objectives import Binary, Regression

MAINS = {"sst": ("accuracy", False)}
TWO = {"sst": ("accuracy", False), "sts": ("loss", True)}


def result(row: str, seed: int, score: float, loss: float | None = None, **others: object) -> Result:
    """One finished run: its score on dev, of a task or, with a loss, of two."""
    scores = {"sst": {"accuracy": score}} | ({} if loss is None else {"sts": {"loss": loss}})
    given = {"scores": {"dev": scores}, "mains": MAINS if loss is None else TWO} | others
    return Result(row, seed, "finished", **given)  # type: ignore[arg-type]


def ablation(scores: Mapping[str, Sequence[float]]) -> list[Result]:
    """Finished runs with these scores by row, for seeds from 0."""
    return [result(row, seed, score) for row, values in scores.items() for seed, score in enumerate(values)]


def answered(
    folder: Path,
    row: str,
    seed: int,
    right: float,
    examples: int = 60,
    changes: Sequence[str] = (),
    drop: float = float("nan"),
) -> Result:
    """A run that answers a yes-or-no task and a score, also on changed examples, and leaves its answers."""
    torch.manual_seed(7)  # of the examples, which are the same for every run
    labels, near = torch.randint(2, [examples]), torch.rand(examples) * 5
    hard = torch.randn(examples)
    torch.manual_seed(100 * seed + len(row))
    output = (2 * labels - 1) * (right + hard + 0.3 * torch.randn(examples))
    guess = near + torch.randn(examples) / right
    ids = [str(number) for number in range(examples)]
    own = folder / f"{row}-{seed}"
    own.mkdir()
    there = {}
    for split in ("dev", *(f"dev under {change}" for change in changes)):
        there[split] = {
            "sst": Evidence(Binary(), output, labels, ids),
            "sts": Evidence(Regression(0.0, 5.0), guess, near, ids),
        }
        output, guess = output + torch.randn(examples), guess + torch.randn(examples)
    evidence.save(own, there)
    found = read_outcome(own)
    return Result(row, seed, "finished", found.scores, TWO, 10.0 + seed, memory=2.0**30, drop=drop, folder=own)
