"""Subsample: a smaller training set, drawn by the seed alone."""

from pathlib import Path

import pytest

from regkit.base.errors import ConfigError
from regkit.data.declare import TaskSpec
from regkit.data.load import load_task
from regkit.data.subsample import Draw, draws
from regkit.model.tokenizer import Tokenizer
from regkit.runs.experiment import Experiment
from regkit.runs.settings import Settings
from regkit.tasks.task import Examples, Task
from tests.helpers import regkit, sentence, write_csv


def train_ids(task: Task) -> list[str]:
    examples = task.splits["train"]
    assert isinstance(examples, Examples)
    return list(examples.ids)


def test_a_draw_is_without_replacement_in_order_and_grows_with_its_size() -> None:
    rows = Draw(40, 3).rows("sst", 100)
    assert (len(set(rows)), rows) == (40, sorted(rows))
    assert set(Draw(20, 3).rows("sst", 100)) < set(rows)
    assert Draw(0.4, 3).rows("sst", 100) == rows
    assert len(Draw(0.001, 3).rows("sst", 100)) == 1
    assert rows != Draw(40, 4).rows("sst", 100)
    assert rows != Draw(40, 3).rows("sts", 100)


def test_every_set_of_plugins_draws_the_same_rows_and_dev_and_test_stay_whole(place: Path) -> None:
    settings = Settings(data=place / "data", encoder=str(place / "encoder"), subsample={"mood": 7, "near": 0.5})
    found = [
        {task.name: task for task in Experiment.build(settings.model_copy(update={"plugins": plugins})).tasks}
        for plugins in ({}, {"rrobin": {}, "smart": {}})
    ]
    for tasks in found:
        assert {name: {split: len(each) for split, each in task.splits.items()} for name, task in tasks.items()} == {
            "mood": {"train": 7, "dev": 20, "test": 10},
            "same": {"train": 24, "dev": 20},
            "near": {"train": 12, "dev": 20},
        }
    assert train_ids(found[0]["mood"]) == train_ids(found[1]["mood"])
    notes = found[0]["mood"].notes
    assert "train: 7 of 24 rows are drawn by the seed, which is 0" in notes
    assert sum("train rows by class" in note for note in notes) == 1  # of those that are drawn


def test_weights_of_classes_are_those_of_the_rows_that_are_drawn(place: Path, tmp_path: Path) -> None:
    rows = [{"text": sentence(number), "label": int(number < 5)} for number in range(30)]
    file = write_csv(tmp_path / "t.csv", rows)
    spec = TaskSpec(kind="binary", text="text", label="label", train=file, dev=file, class_weights="balanced")
    tokenizer, draw = Tokenizer.load(place / "encoder"), Draw(12, 1)
    task = load_task("t", spec, tokenizer, 40, draw=draw)
    drawn = [rows[row] for row in draw.rows("t", 30)]
    (file := tmp_path / "drawn.csv").write_text(write_csv(file, drawn).read_text())
    alone = load_task("t", spec.model_copy(update={"train": file}), tokenizer, 40)
    assert task.objective == alone.objective
    write_csv(tmp_path / "t.csv", rows)
    assert load_task("t", spec, tokenizer, 40, splits=["dev"], draw=draw).objective == task.objective


def test_a_draw_of_truncated_texts_counts_those_that_are_drawn(place: Path, tmp_path: Path) -> None:
    rows = [{"text": "good " * (1 + number % 2 * 40), "label": number % 3 // 2} for number in range(30)]
    spec = TaskSpec(kind="binary", text="text", label="label", train=write_csv(tmp_path / "t.csv", rows))
    task = load_task("t", spec, Tokenizer.load(place / "encoder"), 40, draw=Draw(9, 0))
    assert task.splits["train"].truncated == sum(row % 2 for row in Draw(9, 0).rows("t", 30))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sst": 0}, "subsample.sst is 0; give a number of examples, from 1, or a share"),
        ({"sst": -3}, "subsample.sst is -3"),
        ({"sst": 1.0}, "subsample.sst is 1.0"),
        ({"sst": 1.5}, "subsample.sst is 1.5"),
        ({"sst": True}, "subsample.sst is True"),
        ({"sst": "x"}, "subsample.sst is 'x'"),
        ({"sst": None}, "subsample.sst is None"),
        ({"sst": float("nan")}, "subsample.sst is nan"),
        ("500", "subsample is '500'; give TASK=NUMBER or TASK=SHARE, such as sst=500."),
        ("sst=1,sst=2", "task 'sst' is given twice."),
        (500, "subsample is 500"),
        ([500], "give TASK=NUMBER"),
    ],
)
def test_a_subsample_that_cannot_be_is_refused(given: object, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.checked({"subsample": given}, "c.toml")
    assert said in str(refused.value)


def test_a_subsample_is_read_from_text_as_from_a_table() -> None:
    for given in ("sst=500, sts=0.1", ["sst=500", "sts=0.1"], {"sst": 500, "sts": 0.1}, {"sst": "500", "sts": "0.1"}):
        found = Settings.checked({"subsample": given}, "c.toml").subsample
        assert found == {"sst": 500, "sts": 0.1}
        assert type(found["sst"]) is int


def test_more_rows_than_there_are_and_an_unknown_task_are_refused() -> None:
    with pytest.raises(ConfigError, match="task 'sst' has 10 training examples, not 11"):
        Draw(11, 0).rows("sst", 10)
    with pytest.raises(ConfigError, match=r"there is no task 'sts' to draw from. Did you mean 'sst'"):
        draws({"sts": 3}, 0, ["sst"])


def test_a_run_goes_on_with_the_rows_that_it_drew_and_is_scored_on_them(place: Path, tmp_path: Path) -> None:
    words = ("--encoder", place / "encoder", "--data", place / "data", "--tasks", "mood", "--steps", "1")
    assert regkit("train", *words, "--subsample", "mood=5", "--output", "run", cwd=tmp_path).status == 0
    ran = regkit("train", "--resume", "run", "--subsample", "mood=6", cwd=tmp_path)
    assert (ran.status, "run has subsample = {'mood': 5}, not {'mood': 6}" in ran.err) == (2, True)
    scored = regkit("eval", "run", "--split", "train", "--predictions", "p", cwd=tmp_path)
    assert (scored.status, "no longer those" in scored.out) == (0, False)
    assert len((tmp_path / "p" / "mood-train.csv").read_text().splitlines()) == 1 + 5
    whole = regkit("eval", "run", "--split", "train", "--data", place / "data", "--predictions", "q", cwd=tmp_path)
    assert (whole.status, len((tmp_path / "q" / "mood-train.csv").read_text().splitlines())) == (0, 1 + 24)
