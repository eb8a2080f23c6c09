"""`regkit eval --report`: scores with intervals, and where a task is wrong, in words and as JSON."""

import csv
import json
from functools import partial
from pathlib import Path

import pytest

from regkit.cli import evaluate
from regkit.cli.report import in_words
from regkit.training.intervals import intervals
from tests.helpers import regkit


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    words = ("--encoder", "encoder", "--data", "data", "--output", "run", "--steps", 6, "--lr", 0.01)
    assert regkit("train", *words, cwd=place).status == 0
    assert regkit("eval", "run", "--predictions", "predicted", cwd=place).status == 0
    return place / "run"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few resamples are enough here."""
    monkeypatch.setattr(evaluate, "intervals", partial(intervals, resamples=20))


def test_the_report_adds_to_the_scores_and_agrees_with_the_prediction_files(run: Path, place: Path) -> None:
    plain = json.loads(regkit("eval", "run", "--json", cwd=place).out)
    full = json.loads(regkit("eval", "run", "--json", "--report", cwd=place).out)
    report = full.pop("report")
    assert full == plain
    assert list(report) == ["mood", "same", "near"]
    for name, values in plain["dev"].items():
        assert set(report[name]["intervals"]) == set(values)
        assert all(low <= high for low, high in report[name]["intervals"].values())
    with (place / "predicted" / "mood-dev.csv").open(encoding="utf8", newline="") as file:
        guesses = [row["mood"] for row in csv.DictReader(file)]
    counts = [
        [sum(n % 3 == truth and guess == str(g) for n, guess in enumerate(guesses)) for g in range(3)]
        for truth in range(3)
    ]
    assert report["mood"]["confusion"] == counts
    assert list(report["mood"]["classes"]) == ["0", "1", "2"]
    worst = report["mood"]["worst"][0]
    assert worst["text"].startswith("the ")
    assert guesses[int(worst["id"].removeprefix("dev"))] == worst["prediction"] != worst["truth"]
    assert len(report["same"]["worst"][0]["text"]) == 2
    assert {"mean_absolute_error", "root_mean_squared_error", "worst", "intervals"} == set(report["near"])


def test_the_report_in_words_has_an_interval_after_each_score_and_a_row_for_each_class(run: Path, place: Path) -> None:
    lines = regkit("eval", "run", "--report", cwd=place).out.splitlines()
    scores = json.loads((run / "scores.json").read_text())["dev"]["mood"]
    shown = f"{scores['accuracy']:.3f}".removeprefix("0")
    assert lines[0].startswith(f"mood: accuracy {shown} [.")
    assert lines[1].startswith("mood: calibration error .")
    assert lines[2].startswith("mood: brier score .")
    assert lines[4].split() == ["class", "precision", "recall", "f1", "count", "as", "0", "as", "1", "as", "2"]
    assert [line.split()[0] for line in lines[5:8]] == ["0", "1", "2"]
    assert lines[lines.index("mood: the worst errors") + 1].split() == [
        "id",
        "truth",
        "prediction",
        "probability",
        "text",
    ]
    assert any(line.startswith("near: mean absolute error ") for line in lines)


def test_the_worst_errors_of_rows_without_ids_are_numbered_as_rows() -> None:
    worst = [{"id": "row 12", "text": "fine", "truth": "0", "prediction": "1", "probability": 0.9}]
    assert in_words("t", {}, {"intervals": {}, "worst": worst})[3:5] == [
        "row  truth  prediction  probability  text",
        "12   0      1           .900         fine",
    ]


def test_a_split_without_labels_has_no_report(run: Path, place: Path) -> None:
    assert json.loads(regkit("eval", "run", "--split", "test", "--report", "--json", cwd=place).out)["report"] == {}


def test_numbers_are_short_and_many_classes_and_kinds_without_a_table_are_left_to_json() -> None:
    many = {str(n): {"precision": 0.0, "recall": 1.0, "f1": 0.5, "count": n} for n in range(30)}
    assert in_words("t", {"accuracy": 0.874}, {"intervals": {"accuracy": (0.861, 1)}, "classes": many}) == [
        "t: accuracy .874 [.861, 1.000]",
        "t: 30 classes; --json has a row for each.",
        "",
    ]
    said = in_words("t", {"r": -0.12, "loss": 10.5, "zero": -0.0001}, {"intervals": {}})
    assert said == ["t: r -.120, loss 10.500, zero .000", ""]
