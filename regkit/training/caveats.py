"""Caveats: say what the scores of a split do not show."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from regkit.tasks.objectives import defined, differ
from regkit.tasks.task import Split, Task

ALIKE = 1e-3  # predictions of a regression this close together tell no example from another; its scale is 0 to 5


def undefined(task: Task, split: Split) -> list[str]:
    """List the scores that a split's labels do not define."""
    labels = task.splits[split].labels
    known = task.objective.scores if labels is None else defined(task.objective, labels)
    return [name for name in task.objective.scores if name not in known]


def left_out(task: Task, split: Split) -> str:
    """Say which scores a split's labels do not define; nothing if they define all."""
    labels, names = task.splits[split].labels, undefined(task, split)
    if labels is None or not names:
        return ""
    said = f"every {split} label is {task.objective.text(labels[0].tolist()) or 'none'}"
    return f"{said}: {_are(names)} not defined, and left out"


def _are(names: list[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"


def one_sided(task: Task, split: Split, evidence: Tensor) -> str:
    """Say that all predictions of a split are the same while its labels are not; nothing if they differ."""
    labels = task.splits[split].labels
    if evidence.shape[1:] != ((task.objective.width,) if task.objective.width > 1 else ()):
        return ""  # it is less than the output, and predicts nothing
    guesses = task.objective.prediction(evidence)
    apart = (guesses - guesses[0]).abs().max()
    if len(guesses) == 1 or apart > ALIKE or not (labels is None or differ(labels)):
        return ""
    said = f"{task.name}: all {len(guesses)} predictions on {split} are"
    text = task.objective.text(guesses[0].double().round(decimals=3).tolist()) or "none"
    if guesses.is_floating_point():
        return f"{said} about {text}: they tell no example from another"
    said += f" {text}" if guesses.dim() > 1 else f" class {text}"
    if labels is None:
        return said
    share = 100 * (labels == guesses[0]).view(len(labels), -1).all(1).double().mean().item()
    return f"{said}, as are {share:.3g} % of its labels: accuracy alone does not show it"


def report(split: Split, scores: Mapping[str, Mapping[str, float]], caveats: Sequence[str]) -> dict[str, Any]:
    """Put the scores of a split, and what they do not show, into the form of their JSON."""
    return {split: scores, **({"warnings": caveats} if caveats else {})}
