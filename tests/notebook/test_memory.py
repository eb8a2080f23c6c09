"""Data in memory: every form that a notebook has becomes the same tables."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regkit import ConfigError, DataError, RegkitError
from regkit.data.find import find_tasks
from regkit.notebook.memory import write_tables

TEXTS, LABELS = ["good", "bad film", "fine"], ["yes", "no", "yes"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        path.stem: [json.loads(line) for line in path.read_text("utf8").splitlines()] for path in folder.glob("*.jsonl")
    }


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


def test_decimals_as_databases_give_them_are_numbers(tmp_path: Path) -> None:
    found = read(write_tables((["a", "b"], [Decimal("1.00"), Decimal("2.5")]), tmp_path))["task-train"]
    assert [row["label"] for row in found] == [1, 2.5]


def test_lists_in_a_frame_are_lists_and_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    held = pandas.DataFrame(
        {"text": ["x", "y"], "label": [np.array(["a", "b"], dtype=object), np.array([], dtype=object)]}
    )
    assert read(write_tables({"many": held}, tmp_path))["many-train"] == [
        {"text": "x", "label": ["a", "b"]},
        {"text": "y", "label": []},
    ]
    twice = pandas.DataFrame([["x", 1, "same"]], columns=["text", "label", "text"])
    with pytest.raises(DataError, match=r"has two columns 'text'; rename one of them\.$"):
        write_tables({"twice": twice}, tmp_path)


def test_several_tasks_and_options_are_declared_beside_the_tables(tmp_path: Path) -> None:
    tasks = {
        "sst": {"train": ROWS, "dev": ROWS, "metric": "macro_f1"},
        "sts": ([("a", "b"), ("c", "d")] * 5, [1, 2.5] * 5),
    }
    found = find_tasks(write_tables(tasks, tmp_path))
    assert (found["sst"].metric, found["sst"].text, found["sst"].held_out) == ("macro_f1", "text", 0)
    assert (found["sts"].text_columns, found["sts"].held_out) == (("text1", "text2"), 0.1)
    several = {
        "toxic": {
            "train": [{"text": "a", "rude": 1, "mean": 0}],
            "kind": "multilabel",
            "label": ["rude", "mean"],
            "dev": 0,
        }
    }
    declared = find_tasks(write_tables(several, tmp_path))["toxic"]
    assert (declared.label_columns, declared.kind, declared.held_out) == (("rude", "mean"), "multilabel", 0)


def test_an_array_of_pairs_is_a_list_of_pairs(tmp_path: Path) -> None:
    found = read(write_tables((np.array([["a", "b"], ["c", "d"]]), [0, 1]), tmp_path))["task-train"]
    assert found == [{"text1": "a", "text2": "b", "label": 0}, {"text1": "c", "text2": "d", "label": 1}]


def refusal(data: Any, folder: Path) -> str:
    with pytest.raises(RegkitError) as error:
        write_tables(data, folder)
    return str(error.value)


def test_a_refused_form_comes_with_the_one_that_is_taken(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pairs = list(zip(TEXTS, LABELS, strict=True))
    for table in (pairs, zip(TEXTS, LABELS, strict=True)):
        assert "that is tuple(zip(*table))." in refusal(table, tmp_path)
    assert refusal({"text": TEXTS, "label": LABELS}, tmp_path).endswith(
        "; a dict holds tasks by name, and one of columns is a DataFrame: pandas.DataFrame(columns)."
    )
    assert read(write_tables(tuple(zip(*pairs, strict=True)), tmp_path)) == {"task-train": ROWS}
    assert "regkit.train('sst.csv'), or a task of a tasks.toml." in refusal({"sst": {"train": "sst.csv"}}, tmp_path)
    stream = datasets.Dataset.from_list(ROWS).to_iterable_dataset()
    assert "is a stream, which may have no end: take rows of it by list(data.take(" in refusal(stream, tmp_path)
    assert read(write_tables(list(stream.take(3)), tmp_path)) == {"task-train": ROWS}
    other = {"a": (TEXTS, LABELS), "b": [{"q": "x", "y": 1, "z": 2}]}
    said = refusal(other, tmp_path)
    form = '"b": {"train": table, "text": COLUMN, "label": COLUMN}'
    assert said == f"task 'b': name its columns, {form}. Available: q, y, z."
    write_tables(other | {"b": {"train": other["b"], "text": "q", "label": "y"}}, tmp_path)


def test_a_task_that_is_named_is_not_given_another_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^there is no task 'sts'\. Did you mean 'sst'"):
        write_tables({"sst": (TEXTS, LABELS)}, tmp_path, ["sts"])
    assert not list(tmp_path.iterdir())
    write_tables((TEXTS, LABELS), tmp_path, ["sts"])  # which has no name of its own


def test_a_split_that_no_task_has_is_to_be_left_out(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list(ROWS)
    said = refusal(datasets.DatasetDict(train=rows, unsupervised=rows), tmp_path)
    assert "has no split or option 'unsupervised'; leave it out of the mapping. " in said
    assert said.count(" dev,") == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "data is empty; it needs a table for each task, by the task's name."),
        ({"sst": (TEXTS, LABELS[:2])}, "task 'sst', train has 3 texts and 2 labels."),
        ({"sst": "good"}, "task 'sst', train is of type str; (texts, labels), a DataFrame, "),
        ({"sst": ([3], [1])}, "task 'sst', train, text 0 is 3; a str is needed, or a pair of them."),
        ({"my task": ROWS}, "data has a task 'my task', which is no name of one; my_task would be."),
        ({3: ROWS}, "data has a task 3, which is no name of one; task_3 would be."),
        ({"sst": {"dev": ROWS}}, "task 'sst' has no train split."),
        ({"sst": {"train": ROWS, "tests": ROWS}}, "task 'sst' has no split or option 'tests'. Did you mean 'test'?"),
        ({"sst": [{"text": object()}]}, "task 'sst', train, row 0: text is <object object at "),
        (
            {"sst": [ROWS[0], {"text": "a", "label": float("inf")}]},
            "task 'sst', train, row 1: label is inf; text that ",
        ),
        ({"sst": (["a\ud800"], [1])}, r"task 'sst', train, row 0: text is 'a\ud800'; text that UTF-8 holds, a finite "),
        ({"sst": (set(TEXTS), LABELS)}, "task 'sst', train: texts are a set, which has no order: the labels would go "),
        ({"sst": (TEXTS, frozenset(LABELS))}, "task 'sst', train: labels are a frozenset, which has no order: "),
        ({"sst": ("abc", LABELS)}, "task 'sst', train: texts are a str; a list is needed."),
        ({"sst": (TEXTS, dict.fromkeys(TEXTS))}, "task 'sst', train: labels are a dict; a list is needed."),
        ({"sst": (TEXTS, 3)}, "task 'sst', train: labels are of type int; a list is needed."),
        ({"sst": ([("a", "b"), "c"], [1, 2])}, "task 'sst', train, text 1 is a str, and text 0 is a pair."),
        (zip(TEXTS, LABELS, strict=True), "task 'task', train is of type zip; (texts, labels), a DataFrame, "),
        (
            {"sst": "sst.csv"},
            "task 'sst', train is of type str; (texts, labels), a DataFrame, a datasets.Dataset or a ",
        ),
        (7, "task 'task', train is of type int; (texts, labels), "),
    ],
)
def test_what_is_no_table_is_refused_and_leaves_nothing(data: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        write_tables(data, tmp_path)
    assert str(error.value).startswith(said)
    assert not list(tmp_path.iterdir())
