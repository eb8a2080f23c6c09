"""Checks: refuse an objective whose parts do not belong together."""

import math
from collections.abc import Sequence

from regkit.base.errors import nearest
from regkit.tasks.scores import SCORES, a_task


def check_metric(kind: str, metric: str) -> None:
    """Raise ValueError, which names the nearest, if a kind has no such score."""
    if metric not in SCORES[kind]:
        raise ValueError(f"metric is '{metric}', and {a_task(kind)} has no such score. {nearest(metric, SCORES[kind])}")


def check_classes(kind: str, classes: int, names: Sequence[str], weights: Sequence[float], least: int = 2) -> None:
    """Raise ValueError if there are too few classes, or not one name and one weight for each."""
    if classes < least:
        raise ValueError(f"{a_task(kind)} needs {least} classes or more, not {classes}")
    if names and len(set(names)) != classes:
        raise ValueError(f"{a_task(kind)} of {classes} classes needs as many names that differ, not {list(names)}")
    check_weights(weights, classes)


def check_weights(weights: Sequence[float], count: int) -> None:
    """Raise ValueError if weights are given and are not `count` positive numbers."""
    if weights and not (len(weights) == count and all(0 < weight < math.inf for weight in weights)):
        raise ValueError(f"class weights are {count} positive numbers, not {list(weights)}")
