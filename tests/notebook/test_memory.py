"""Data in memory: every form that a notebook has becomes the same tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regkit import DataError
from regkit.notebook.memory import write_tables

TEXTS, LABELS = ["good", "bad film", "fine"], ["yes", "no", "yes"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.stem: [json.loads(line) for line in path.read_text("utf8").splitlines()] for path in folder.iterdir()}


def frames() -> list[Any]:
    datasets, pandas = pytest.importorskip("datasets"), pytest.importorskip("pandas")
    named = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    return [
        (TEXTS, LABELS),
        (np.array(TEXTS), np.array(LABELS)),
        ROWS,
        pandas.DataFrame(ROWS),
        datasets.Dataset.from_list(ROWS),
        datasets.Dataset.from_dict({"text": TEXTS, "label": [1, 0, 1]}, features=named),
    ]


def test_every_form_of_a_table_is_written_alike_and_once(tmp_path: Path) -> None:
    folders = {write_tables({"sst": table}, tmp_path) for table in frames()}
    assert len(folders) == 1
    assert read(folders.pop()) == {"sst-train": ROWS}
    assert [path.name[:4] for path in tmp_path.iterdir()] == ["sst-"]


def test_splits_pairs_numbers_and_missing_values_are_kept(tmp_path: Path) -> None:
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    pairs = ([("a", "b"), ["c", "d"]], np.array([1.5, 2.0]))
    frame = pandas.DataFrame({"text": ["x", "y"], "label": [1, float("nan")], "when": pandas.Timestamp("2026-01-02")})
    unlabelled = datasets.Dataset.from_dict(
        {"text": ["z"], "label": [-1]},
        features=datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
        ),
    )
    found = read(
        write_tables({"sts": pairs, "sst": {"train": frame, "validation": frame, "test": unlabelled}}, tmp_path)
    )
    assert found["sts-train"] == [
        {"text1": "a", "text2": "b", "label": 1.5},
        {"text1": "c", "text2": "d", "label": 2.0},
    ]
    assert found["sst-train"] == found["sst-dev"]
    assert [row["label"] for row in found["sst-dev"]] == [1.0, None]
    assert found["sst-dev"][0]["when"] == "2026-01-02T00:00:00"
    assert found["sst-test"] == [{"text": "z", "label": None}]
    assert read(write_tables((TEXTS, LABELS), tmp_path)) == {"task-train": ROWS}
    assert set(read(write_tables(datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)), tmp_path))) == {
        "task-train"
    }


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "data is empty; it needs a table for each task, by the task's name."),
        ({"sst": (TEXTS, LABELS[:2])}, "task 'sst', train has 3 texts and 2 labels."),
        ({"sst": "good"}, "task 'sst', train is of type str; (texts, labels), a DataFrame, "),
        ({"sst": ([3], [1])}, "task 'sst', train, text 0 is 3; a str is needed, or a pair of them."),
        ({"my task": ROWS}, "data has a task 'my task'; a name is made of letters, digits and _, "),
        ({"sst": {"dev": ROWS}}, "task 'sst' has no train split."),
        ({"sst": {"train": ROWS, "tests": ROWS}}, "task 'sst' has a split 'tests'. Did you mean 'test'?"),
        ({"sst": [{"text": object()}]}, "task 'sst', train: a row cannot be written as JSON: a object is no text, "),
        ({"sst": [{"text": "a", "label": float("inf")}]}, "task 'sst', train: a row cannot be written as JSON: "),
        (7, "task 'task', train is of type int; (texts, labels), "),
    ],
)
def test_what_is_no_table_is_refused_and_leaves_nothing(data: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        write_tables(data, tmp_path)
    assert str(error.value).startswith(said)
    assert not list(tmp_path.iterdir())
