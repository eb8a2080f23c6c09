"""Kinds on the command line: what is trained is written, read again, resumed and built on, whatever its labels are."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from regkit import Classification
from regkit.runs.resume import fingerprints
from regkit.testing import tiny_task
from tests.helpers import regkit, sentence, write_csv, write_encoder, write_tasks

TASKS = """\
[tasks.tags]
kind = "multilabel"
label = ["good", "sweet"]
text = "text"
id = "id"
class_weights = "balanced"
train = "train.csv"
dev = "dev.csv"

[tasks.list]
kind = "multilabel"
label = "list"
classes = ["good", "sweet"]
text = "text"
metric = "macro_f1"
train = "train.csv"
dev = "dev.csv"

[tasks.stars]
kind = "ordinal"
label = "stars"
classes = ["1", "2", "3", "4", "5"]
text = "text"
metric = "mae"
train = "train.csv"
dev = "dev.csv"

[tasks.shares]
kind = "soft"
label = ["bad", "fair"]
text = "text"
train = "train.csv"
dev = "dev.csv"
"""
NAMES = ["tags", "list", "stars", "shares"]


def row(number: int) -> dict[str, object]:
    """A sentence, with its labels in every form."""
    good, sweet, mood = number % 5 < 2, number % 7 in (0, 5), number % 5
    held = [name for name, holds in (("Good", good), ("sweet", sweet)) if holds]
    stars, shares = {"stars": f"{5 - mood}.0"}, {"bad": mood / 4, "fair": 1 - mood / 4}
    return (
        {"id": f"x{number}", "text": sentence(number), "good": int(good), "sweet": "ny"[sweet], "list": "; ".join(held)}
        | stars
        | shares
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run of all kinds."""
    place = tmp_path_factory.mktemp("kinds")
    write_encoder(place / "encoder")
    (place / "data").mkdir()
    (place / "data" / "tasks.toml").write_text(TASKS, encoding="utf8")
    for split, size in (("train", 35), ("dev", 20)):
        write_csv(place / "data" / f"{split}.csv", [row(number) for number in range(size)])
    ran = regkit("train", "--encoder", "encoder", "--data", "data", "--steps", 8, "--output", "run", cwd=place)
    assert (ran.status, ran.err) == (0, "")
    assert "  weights of its classes in the loss: good 1.25, sweet 1.75.\n" in ran.out
    return place


def test_an_evaluation_gives_the_scores_of_the_run(trained: Path) -> None:
    ran = regkit("eval", "run", "--json", cwd=trained)
    scored = json.loads((trained / "run" / "scores.json").read_text())
    found = json.loads(ran.out)["dev"]
    assert list(found) == NAMES
    for name in NAMES:
        assert found[name] == pytest.approx(scored["dev"][name], rel=1e-6)


def test_predictions_are_in_the_columns_and_words_of_the_data(trained: Path, tmp_path: Path) -> None:
    assert regkit("eval", "run", "--predictions", tmp_path, cwd=trained).status == 0
    texts = {name: (tmp_path / f"{name}-dev.csv").read_text(encoding="utf8") for name in NAMES}
    tables = {name: [*csv.reader(text.splitlines())] for name, text in texts.items()}
    heads = [rows[0] for rows in tables.values()]
    assert heads == [["id", "good", "sweet"], ["row", "list"], ["row", "stars"], ["row", "bad", "fair"]]
    assert all(len(rows) == 21 for rows in tables.values())
    assert {cell for line in tables["tags"][1:] for cell in line[1:]} <= {"0", "1"}
    assert {line[1] for line in tables["list"][1:]} <= {"", "good", "sweet", "good|sweet"}
    assert {line[1] for line in tables["stars"][1:]} <= {"1", "2", "3", "4", "5"}
    for _, bad, fair in tables["shares"][1:]:
        assert float(bad) + float(fair) == pytest.approx(1, abs=1e-5)


def test_another_run_builds_on_the_heads_of_the_same_tasks_however_they_were_weighed(
    trained: Path, tmp_path: Path
) -> None:
    text = TASKS.replace('class_weights = "balanced"\n', "").replace('metric = "mae"\n', "")
    (trained / "data" / "plain.toml").write_text(text, encoding="utf8")
    given = ("--encoder", "run/best", "--data", "data/plain.toml", "--steps", 1, "--output", tmp_path / "next")
    ran = regkit("train", *given, cwd=trained)
    assert [f"its head of {name}: used\n" in ran.out for name in NAMES] == [True] * 4


def test_a_run_does_not_go_on_with_another_loss_or_another_score_that_decides() -> None:
    task = tiny_task("mood", Classification(3))
    digests = [
        *fingerprints([task]).values(),
        *fingerprints([replace(task, objective=Classification(3, weights=(1.0, 2.0, 3.0)))]).values(),
        *fingerprints([replace(task, objective=Classification(3, metric="macro_f1"))]).values(),
    ]
    assert len(set(digests)) == 3
    assert digests[:1] == [*fingerprints([tiny_task("mood", Classification(3))]).values()]


def test_of_a_test_split_every_row_is_predicted_and_those_with_a_label_are_scored(tmp_path: Path) -> None:
    write_tasks(tmp_path / "data")
    rows = [line.split(",") for line in (tmp_path / "data" / "mood-dev.csv").read_text().splitlines()]
    place = rows[0].index("mood")
    blank = [[*row[:place], "", *row[place + 1 :]] if number % 3 == 1 else row for number, row in enumerate(rows)]
    (tmp_path / "data" / "mood-test.csv").write_text("\n".join(map(",".join, blank)) + "\n")
    write_encoder(tmp_path / "encoder")
    train = ["train", "--data", "data", "--encoder", "encoder", "--tasks", "mood", "--steps", "2", "--output", "run"]
    ran = regkit(*train, cwd=tmp_path)
    assert ran.status == 0, ran.err
    missing = sum(not row[place] for row in blank)
    assert f"test: {missing} of {len(rows) - 1} rows have no label: they are predicted, not scored" in ran.out
    ran = regkit("eval", "run", "--split", "test", "--report", "--json", "--predictions", "out", cwd=tmp_path)
    assert ran.status == 0, ran.err
    counted = json.loads(ran.out)["report"]["mood"]["classes"].values()
    assert sum(each["count"] for each in counted) == len(rows) - 1 - missing
    written = (tmp_path / "out" / "mood-test.csv").read_text().splitlines()[1:]
    assert len(written) == len(rows) - 1
    guesses = [line.split(",")[-1] for line in written]
    pairs = [(row[place], guess) for row, guess in zip(blank[1:], guesses, strict=True) if row[place]]
    right = sum(truth == guess for truth, guess in pairs) / len(pairs)
    assert json.loads(ran.out)["test"]["mood"]["accuracy"] == pytest.approx(right)
