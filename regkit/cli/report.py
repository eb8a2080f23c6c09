"""Report: write in words and tables what `regkit eval --report` found."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from regkit.base.errors import short

Report = dict[str, Any]  # the values of its JSON

ERRORS = ("calibration_error", "brier_score", "mean_absolute_error", "root_mean_squared_error")
WIDEST = 20  # classes of a printed table


def in_words(name: str, scores: Mapping[str, float], report: Report, ids: str = "row") -> list[str]:
    """Write the scores of a task with their intervals, and where it is wrong, line by line.

    `ids` is the column that names examples, or `row` where they are numbered.
    """
    within = report["intervals"]
    shown = [f"{score} {_short(value)}{_interval(within.get(score))}" for score, value in scores.items()]
    lines = [f"{name}: {', '.join(shown)}"]
    lines += [f"{name}: {error.replace('_', ' ')} {_short(report[error])}" for error in ERRORS if error in report]
    if "classes" in report:
        lines += _classes(name, report["classes"], report.get("confusion"))
    if report.get("worst"):
        lines += ["", f"{name}: the worst errors", *_worst(report["worst"], ids)]
    return [*lines, ""]


def _classes(
    name: str, classes: Mapping[str, Mapping[str, float]], confusion: Sequence[Sequence[int]] | None
) -> list[str]:
    """Write a row for each class: its scores, its examples, and what they were predicted as."""
    if len(classes) > WIDEST:
        return [f"{name}: {len(classes)} classes; --json has a row for each."]
    header = ["class", "precision", "recall", "f1", "count"]
    rows = [
        [short(each), *(_short(values[key]) for key in header[1:4]), str(values["count"])]
        for each, values in classes.items()
    ]
    if confusion:
        header += [f"as {short(each)}" for each in classes]
        rows = [[*row, *map(str, counts)] for row, counts in zip(rows, confusion, strict=True)]
    return ["", *_aligned([header, *rows])]


def _worst(examples: Sequence[Mapping[str, Any]], ids: str) -> list[str]:
    keys = [key for key in examples[0] if key not in ("id", "text")]
    rows = [
        [str(each["id"]).removeprefix("row "), *(_cell(each[key]) for key in keys), _text(each["text"])]
        for each in examples
    ]
    return _aligned([[ids, *keys, "text"], *rows])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(value: object) -> str:
    return _short(value) if isinstance(value, float) else short(value)


def _text(text: str | Iterable[str]) -> str:
    return short(text if isinstance(text, str) else " | ".join(map(short, text)))


def _interval(ends: Sequence[float] | None) -> str:
    return f" [{_short(ends[0])}, {_short(ends[1])}]" if ends else ""


def _short(value: float) -> str:
    """Write a number in three decimals, without the zero before the point."""
    text = f"{value:z.3f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
