"""Predictions: the sections of a page that show where a run is right and wrong."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regkit.page.charts.figures import Dot, Dots, Figure, Matrix
from regkit.page.charts.scales import fixed
from regkit.page.document import Block, Cell, Grid, Note, Panel, Section
from regkit.page.text import excerpt
from regkit.page.words import MOST

if TYPE_CHECKING:  # it imports torch
    from regkit.page.reading.answers import Answered, Answers

ERRORS = {
    "calibration_error": "expected calibration error",
    "brier_score": "Brier score",
    "mean_absolute_error": "mean absolute error",
    "root_mean_squared_error": "root mean squared error",
}


def sections(answers: "Answers") -> list[Section]:
    """Make a section of all predictions, and one below it for each task."""
    said = [f"Dev split, from {answers.source}."] if answers.tasks else []
    notes: list[Block] = [Note(said)] if said else []
    notes += [Note(answers.notes, warning=True)] if answers.notes else []
    parts = [Section(each.task, _of_task(each), level=3) for each in answers.tasks]
    return [Section("Predictions", notes), *parts] if notes else []


def _of_task(answered: "Answered") -> list[Block]:
    scores = [f"{name} {fixed(value)}" for name, value in answered.scores.items()]
    scores += [f"{said} {fixed(answered.found[name])}" for name, said in ERRORS.items() if name in answered.found]
    blocks: list[Block] = [Note([f"{answered.examples} examples, {answered.kind}: {', '.join(scores)}."])]
    if not answered.found:
        return [*blocks, Note([f"Of {answered.kind} tasks, no example is shown."])]
    if figures := _figures(answered):
        blocks.append(Panel(_said(answered), figures))
    if classes := answered.found.get("classes"):
        blocks.append(_classes(answered, classes))
    if worst := answered.found.get("worst"):
        blocks.append(_worst(worst))
    return blocks


def _said(answered: "Answered") -> str:
    if answered.pairs:
        return "Each example: what was predicted against the truth. On the line, both are equal."
    return (
        "Confusion: rows are the truth, shades are shares of a row. Calibration: on the line, a prediction is as often "
        "right as it is sure; large dots are many examples."
    )


def _figures(answered: "Answered") -> list[Figure]:
    figures: list[Figure] = []
    if confusion := answered.found.get("confusion"):
        names = list(answered.found["classes"])
        figures.append(Matrix("confusion", names, names, confusion, "truth", "prediction", by_row=True))
    if answered.calibration:
        most = max(count for _, _, count in answered.calibration)
        dots = [Dot(sure, right, weight=count / most) for sure, right, count in answered.calibration]
        figures.append(Dots("calibration", dots, "confidence", "accuracy", square=True, bounds=(0.0, 1.0)))
    if answered.pairs:
        dots = [Dot(*pair) for pair in answered.pairs]
        figures.append(
            Dots("prediction against truth", dots, "truth", "prediction", square=True, bounds=answered.bounds)
        )
    return figures


def _classes(answered: "Answered", classes: Mapping[str, Mapping[str, float]]) -> Grid:
    head = ["class", "precision", "recall", "F1", "examples"]
    rows = [[name, *(fixed(each[key]) for key in ("precision", "recall", "f1")), str(int(each["count"]))]
            for name, each in classes.items()]  # fmt: skip
    return Grid(f"Classes of {answered.task}", head, rows, folded=len(rows) > MOST)


def _worst(examples: Sequence[Mapping[str, Any]]) -> Grid:
    """List the worst errors, each with its text, or texts, and its id below."""
    keys = [key for key in examples[0] if key not in ("id", "text")]
    rows: list[list[str | Cell]] = [[_text(example), *(_cell(example[key]) for key in keys)] for example in examples]
    named = isinstance(examples[0]["truth"], str)
    return Grid("The worst errors", ["text", *keys], rows, frozenset({0, 1, 2} if named else {0}))


def _text(example: Mapping[str, Any]) -> Cell:
    """Show the text of an example, or the two of a pair; where it could not be read, the id alone."""
    found = example["text"]
    shown = excerpt(found.strip()) if isinstance(found, str) else "\n".join(map(_one_of_two, found))
    return Cell(shown, str(example["id"])) if shown else Cell(str(example["id"]))


def _one_of_two(text: str) -> str:
    return f"\N{EN DASH} {excerpt(text.strip())}"


def _cell(value: object) -> str:
    return fixed(value) if isinstance(value, float) else str(value)
