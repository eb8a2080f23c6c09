"""Answers: a page shows where a run is right and wrong, from what it has kept or from its best checkpoint."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from regkit.page.charts.figures import Dots, Matrix
from regkit.page.document import Cell, Grid, Note, Panel, Section
from regkit.page.reading import answers
from regkit.page.sections import predictions
from regkit.runs import evidence
from regkit.runs.listing import Run
from regkit.tasks.objectives import Classification, Multilabel, Regression
from regkit.tasks.task import Examples, Task
from regkit.training.mistakes import expected_calibration_error
from tests.helpers import regkit

ARGUMENTS = ["--encoder", "encoder", "--data", "data", "--steps", 2, "--batch-size", 8]


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    ran = regkit("train", *ARGUMENTS, "--output", "run", cwd=place)
    assert ran.status == 0, ran.err
    return place / "run"


def task(objective: object, labels: torch.Tensor, texts: tuple[tuple[str, ...], ...] = ()) -> Task:
    none, ids = np.zeros(0, np.int32), [f"id{number}" for number in range(len(labels))]
    examples = Examples(none, none, np.zeros(len(labels) + 1, np.int64), labels, ids=ids, texts=texts)
    return Task("mood", objective, {"dev": examples})  # type: ignore[arg-type]


def figures(section: Section) -> list[object]:
    return [figure for block in section.blocks if isinstance(block, Panel) for figure in block.figures]


def rows(section: Section, caption: str) -> list[list[str]]:
    grids = [block for block in section.blocks if isinstance(block, Grid) and caption in block.caption]
    return [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in grids[0].rows]


def test_the_best_checkpoint_answers_and_the_texts_are_those_of_the_data(run: Path) -> None:
    found = answers.read(Run(run))
    assert found.source == "the best checkpoint"
    assert [each.task for each in found.tasks] == ["mood", "same", "near"]
    overview, mood, same, near = predictions.sections(found)
    assert overview.blocks == [Note(["Dev split, from the best checkpoint."])]
    assert [type(figure) for figure in figures(mood)] == [Matrix, Dots]
    assert all("the " in row[0] for row in rows(mood, "worst"))
    assert all(row[0].startswith("– the ") and "\n– the " in row[0] for row in rows(same, "worst"))
    (scatter,) = figures(near)
    assert isinstance(scatter, Dots)
    assert (scatter.square, scatter.bounds, len(scatter.dots)) == (True, (0.0, 5.0), 20)


def test_what_a_run_has_kept_is_shown_without_its_checkpoints(run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "run"
    shutil.copytree(run, kept, ignore=shutil.ignore_patterns("checkpoints", "best", "last"))
    ids = [f"dev{number}" for number in range(20)]
    labels = torch.tensor([number % 3 for number in range(20)])
    output = torch.nn.functional.one_hot((labels + 1) % 3, 3).float()
    evidence.save(kept, {"dev": {"mood": evidence.Evidence(Classification(3), output, labels, ids)}})
    found = answers.read(Run(kept))
    assert (found.source, list(found.notes)) == ("the answers that the run has kept", [])
    _, mood = predictions.sections(found)
    assert rows(mood, "worst")[0][:3] == ["the cake is good", "0", "1"]


def test_without_its_data_or_its_checkpoint_the_page_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    kept = tmp_path / "run"
    shutil.copytree(run, kept, ignore=shutil.ignore_patterns("checkpoints", "best", "last"))
    text = (kept / "config.toml").read_text(encoding="utf8")
    (kept / "config.toml").write_text(text.replace(str(run.parent / "data"), str(tmp_path / "gone")), encoding="utf8")
    found = answers.read(Run(kept))
    assert not found.tasks
    assert found.notes[0].startswith("the predictions are not shown: ")
    other = evidence.Evidence(Classification(3), torch.eye(3), torch.tensor([0, 1, 1]), ["a", "b", "c"])
    evidence.save(kept, {"dev": {"mood": other}})
    found = answers.read(Run(kept))
    assert "mood: the texts cannot be read: " in found.notes[0]
    (_, mood) = predictions.sections(found)
    assert rows(mood, "worst") == [["c", "1", "2", "0.576"]]


def test_the_bins_of_the_calibration_are_those_of_its_error() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.2, 1, 500)
    right = random.uniform(size=500) < 0.6  # too sure above it, and not sure enough below
    bins = answers.reliability(confidence, right)
    assert sum(count for _, _, count in bins) == 500
    error = sum(count * abs(sure - often) for sure, often, count in bins) / 500
    assert error == pytest.approx(expected_calibration_error(confidence, right))


def test_a_score_is_shown_in_the_unit_of_its_table() -> None:
    found = answers.answered(task(Regression(0, 100), torch.tensor([0.0, 5.0])), torch.tensor([1.0, 9.0]))
    assert found.pairs == [(0.0, 20.0), (100.0, 100.0)]
    assert found.bounds == (0, 100)


def test_one_class_and_a_hundred_can_be_shown() -> None:
    for classes in (2, 100):
        labels = torch.zeros(3, dtype=torch.int64)
        found = answers.answered(task(Classification(classes), labels), torch.eye(classes)[:1].repeat(3, 1))
        _, section = predictions.sections(answers.Answers([found], "x"))
        assert isinstance(figures(section)[0], Matrix)


def test_labels_of_several_classes_have_scores_and_no_examples() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = answers.answered(task(Multilabel(2, ("a", "b")), labels), torch.zeros(2, 2))
    _, section = predictions.sections(answers.Answers([found], "x"))
    assert section.blocks[-1] == Note(["Of multilabel tasks, no example is shown."])


def test_long_texts_are_cut_and_say_how_long_they_are() -> None:
    made = task(Classification(2), torch.tensor([0]), (("x" * 10_000,),))
    _, section = predictions.sections(answers.Answers([answers.answered(made, torch.tensor([[0.0, 1.0]]))], "x"))
    (row,) = rows(section, "worst")
    assert row[0].endswith("… (10,000 characters)")
    assert len(row[0]) < 700
