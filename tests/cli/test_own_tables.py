"""Tables of one's own: a run reads new ones as it read those that it was trained on."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers import regkit, write_encoder

TRAIN = ("train", "--encoder", "encoder", "--steps", "4", "--learning-rate", "1e-2")
TEXTS = [f'"it {number} {word}"' for number in range(30) for word in ("fine", "sad")]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_encoder(tmp_path / "encoder")
    rows = [f"{text}\t{number % 2}" for number, text in enumerate(TEXTS)]
    (tmp_path / "t.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return tmp_path


def answers(path: Path) -> list[str]:
    return [line.split(",")[-1] for line in path.read_text().splitlines()[1:]]


def test_predict_and_eval_read_a_table_in_the_layout_of_those_that_the_task_was_trained_on(place: Path) -> None:
    declared = [
        'kind = "binary"',
        'text = "text"',
        'label = "label"',
        'train = "t.tsv"',
        'dev = "t.tsv"',
        "quoting = false",
    ]
    (place / "t.toml").write_text("\n".join(["[tasks.t]", *declared]))
    ran = regkit(*TRAIN, "--data", "t.toml", "--output", "run", cwd=place)
    assert ran.status == 0, ran.err
    assert regkit("eval", "run", "--predictions", "own", cwd=place).status == 0
    assert regkit("eval", "run", "--data", "t.tsv", "--predictions", "table", cwd=place).status == 0
    assert regkit("predict", "run", "t.tsv", "--output", "new.jsonl", cwd=place).status == 0
    new = [json.loads(line) for line in (place / "new.jsonl").read_text().splitlines()]
    assert [row["text"] for row in new] == TEXTS
    own = answers(place / "own" / "t-dev.csv")
    assert [str(row["t"]["label"]) for row in new] == own == answers(place / "table" / "t-dev.csv")


def test_a_table_that_has_moved_is_scored_on_the_rows_that_were_held_out_and_another_on_all(place: Path) -> None:
    ran = regkit(*TRAIN, "--data", "t.tsv", "--dev", "0.2", "--output", "run", cwd=place)
    assert ran.status == 0, ran.err
    before = regkit("eval", "run", "--json", cwd=place).out
    (place / "t.tsv").rename(place / "moved.tsv")
    assert regkit("eval", "run", "--data", "moved.tsv", "--json", cwd=place).out == before
    (place / "other.tsv").write_text("\n".join((place / "moved.tsv").read_text().splitlines()[:11]) + "\n")
    ran = regkit("eval", "run", "--data", "other.tsv", "--predictions", "all", cwd=place)
    assert "the rows of other.tsv are scored; the run may have been trained on some of them" in ran.out
    assert len(answers(next((place / "all").iterdir()))) == 10
    with (place / "other.tsv").open("a") as file:
        file.write(f"{TEXTS[0]}\t\n")
    ran = regkit("eval", "run", "--data", "other.tsv", cwd=place)
    assert "task 't': dev: 1 of 11 rows are left out: 1 without label" in ran.out


def test_a_table_that_was_changed_in_place_is_scored_and_that_is_said(place: Path) -> None:
    shutil.copy(place / "t.tsv", place / "dev.tsv")
    assert regkit(*TRAIN, "--data", "t.tsv", "--dev", "dev.tsv", "--output", "run", cwd=place).status == 0
    assert "no longer" not in regkit("eval", "run", cwd=place).out
    lines = (place / "dev.tsv").read_text().splitlines()
    (place / "dev.tsv").write_text("\n".join(lines[:20]) + "\n")
    said = "task 't': the dev rows are no longer those that the run began with"
    assert said in regkit("eval", "run", cwd=place).out
    assert json.loads(regkit("eval", "run", "--json", cwd=place).out)["warnings"][0] == said


def test_several_files_are_answered_as_one_table_and_what_is_unusual_is_said(place: Path) -> None:
    assert regkit(*TRAIN, "--data", "t.tsv", "--output", "run", cwd=place).status == 0
    for number, text in enumerate(("café", "thé")):
        (place / f"part-{number}.csv").write_bytes(f"text,n\n{text} and more plain text,1\n".encode("cp1252"))
    ran = regkit("predict", "run", "part-*.csv", "--output", "new.jsonl", cwd=place)
    assert ran.status == 0, ran.err
    assert [json.loads(line)["text"][:4] for line in (place / "new.jsonl").read_text("utf8").splitlines()] == [
        "café",
        "thé ",
    ]
    assert "2 files, fields parted by commas" in ran.err
    assert ran.err.count("cp1252") == 2


@pytest.mark.parametrize(
    ("piped", "said"),
    [
        ('[\n {"text": "a"},\n {"text": "b"}\n]\n', "standard input: a JSON array"),
        ('{"txt": "a"}\n', "standard input has no column 'text'; task 't' reads it"),
        ("[laughs] I see\nwell, yes\n", "standard input: one text a line"),
    ],
)
def test_json_is_told_by_how_it_begins_and_never_answered_as_text(
    piped: str, said: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert regkit(*TRAIN, "--data", "t.tsv", "--output", "run", cwd=place).status == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped.encode())))
    ran = regkit("predict", "run", cwd=place)
    assert said in ran.err
    assert len(ran.out.splitlines()) == (0 if "no column" in said else 3)


def test_a_table_is_scored_by_the_task_of_several_that_has_its_columns(place: Path) -> None:
    declared = 'kind = "binary"\ntext = "text"\nlabel = "{}"\ntrain = "{}.tsv"\ndev = 0.2\n'
    (place / "u.tsv").write_text((place / "t.tsv").read_text().replace("label", "other"))
    tasks = f"[tasks.t]\n{declared.format('label', 't')}[tasks.u]\n{declared.format('other', 'u')}"
    (place / "both.toml").write_text(tasks)
    ran = regkit(*TRAIN, "--data", "both.toml", "--output", "run", cwd=place)
    assert ran.status == 0, ran.err
    ran = regkit("eval", "run", "--data", "u.tsv", cwd=place)
    assert "run: dev: u: accuracy" in ran.out
    assert "dev: t: " not in ran.out
    (place / "none.tsv").write_text((place / "t.tsv").read_text().replace("label", "another"))
    (place / "two.tsv").write_text(
        (place / "t.tsv").read_text().replace("label", "label\tother").replace("\t1", "\t1\t1")
    )
    for name, said in {"none": "none of the run's tasks: t, u", "two": "the tasks t and u"}.items():
        refused = regkit("eval", "run", "--data", f"{name}.tsv", cwd=place)
        wanted = f"regkit: {name}.tsv has the columns of {said}; --data takes a tasks.toml that says which it is.\n"
        assert (refused.status, refused.err) == (2, wanted)
