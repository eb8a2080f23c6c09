"""Declare: from files to tasks - the course's folder, a tasks.toml, the demo."""

from pathlib import Path

import pytest

from regkit.base.errors import ConfigError, DataError
from regkit.data.declare import SPLITS, TaskSpec
from regkit.data.find import choose, find_tasks
from regkit.tasks.objectives import Binary, Classification, Regression
from tests.helpers import TASKS, write_csv, write_tasks

ROWS = {"sst": (8544, 1101, 2210), "quora": (25702, 4000, 4000), "sts": (6040, 863, 1725), "cfimdb": (1707, 245, 488)}
PAIRS = {"quora", "sts"}


def declare(folder: Path, text: str) -> dict[str, TaskSpec]:
    (folder / "tasks.toml").write_text(text, encoding="utf8")
    return find_tasks(folder)


def test_the_course_files_are_recognised_as_they_stand(course: Path) -> None:
    tasks = find_tasks(course)
    assert list(tasks) == ["sst", "quora", "sts", "cfimdb"]
    assert [task.objective for task in tasks.values()] == [Classification(5), Binary(), Regression(0, 5), Binary()]
    assert {name for name, task in tasks.items() if len(task.text_columns) == 2} == PAIRS


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_course_files_is_read_and_every_label_fits(course: Path, name: str) -> None:
    task = find_tasks(course)[name]
    tables = {split: task.table(split) for split in SPLITS}
    assert tuple(len(table.rows) for table in tables.values()) == ROWS[name]
    for split in ("train", "dev"):
        labels = [task.objective.label(row[task.label]) for row in tables[split].rows]
        assert min(labels) == 0
        assert max(labels) == {"sst": 4, "sts": 5}.get(name, 1)
    assert task.label not in tables["test"].rows[0]
    ids = [row["id"] for table in tables.values() for row in table.rows]
    assert len(set(ids)) == len(ids)
    assert all(row[column].strip() for table in tables.values() for row in table.rows for column in task.text_columns)


def test_similarity_labels_stay_real_numbers(course: Path) -> None:
    task = find_tasks(course)["sts"]
    labels = {task.objective.label(row[task.label]) for row in task.table("train").rows}
    assert 2.5 in labels
    assert len(labels) > 50


def test_only_those_course_tasks_are_found_that_can_be_trained(tmp_path: Path) -> None:
    rows = [{"id": 1, "sentence": "a", "sentiment": 0}, {"id": 2, "sentence": "b", "sentiment": 1}]
    write_csv(tmp_path / "ids-sst-dev.csv", rows)
    with pytest.raises(DataError, match=r"neither a tasks\.toml nor any of the files ids-sst-train\.csv, "):
        find_tasks(tmp_path)
    train = write_csv(tmp_path / "ids-cfimdb-train.csv", rows)
    found = find_tasks(tmp_path)
    assert list(found) == ["cfimdb"]
    assert (found["cfimdb"].train, found["cfimdb"].dev, found["cfimdb"].test) == (train, None, None)


def test_no_data_is_the_demo() -> None:
    tasks = find_tasks(None)
    assert list(tasks) == ["sentiment", "paraphrase", "similarity"]
    for task in tasks.values():
        table = task.table("dev")
        assert len(table.rows) > 100
        table.require([*task.text_columns, task.label, "id"])
        assert table.where(0).endswith("-dev, row 1")


def test_a_folder_with_tasks_toml_and_the_file_itself_are_the_same(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "data")
    assert find_tasks(folder) == find_tasks(folder / "tasks.toml")


def test_tasks_toml_comes_before_the_course_files(tmp_path: Path) -> None:
    write_csv(tmp_path / "ids-sst-train.csv", [{"id": 1, "sentence": "a", "sentiment": 0}])
    (tmp_path / "tasks.toml").write_text(TASKS, encoding="utf8")
    assert list(find_tasks(tmp_path)) == ["mood", "same", "near"]


def test_paths_start_at_the_folder_of_tasks_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tasks(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    for task in (find_tasks(Path("data"))["mood"], find_tasks(folder)["mood"]):
        assert len(task.table("train").rows) == 24
    elsewhere = TASKS.replace('"mood-train.csv"', f'"{folder}/mood-train.csv"')
    assert declare(tmp_path, elsewhere)["mood"].train == folder / "mood-train.csv"


def test_a_split_that_is_not_declared_has_no_table(tmp_path: Path) -> None:
    tasks = find_tasks(write_tasks(tmp_path / "data"))
    assert tasks["same"].table("test") is None


def test_every_kind_gives_its_objective(tmp_path: Path) -> None:
    tasks = find_tasks(write_tasks(tmp_path / "data"))
    assert [task.objective for task in tasks.values()] == [Classification(3), Binary(), Regression(0, 5)]
    assert [task.text_columns for task in tasks.values()] == [("sentence",), ("one", "two"), ("one", "two")]
    named = declare(tmp_path, TASKS.replace("classes = 3", 'classes = ["sad", "so so", "glad"]'))["mood"].objective
    assert named == Classification(3, ("sad", "so so", "glad"))


def test_a_byte_order_mark_in_tasks_toml_does_no_harm(tmp_path: Path) -> None:
    assert list(declare(tmp_path, "\ufeff" + TASKS)) == ["mood", "same", "near"]


def test_tasks_are_chosen_by_name_in_the_order_they_are_named(tmp_path: Path) -> None:
    tasks = find_tasks(write_tasks(tmp_path / "data"))
    assert list(choose(tasks, ["near", "mood"])) == ["near", "mood"]
    assert choose(tasks, None) == tasks
    with pytest.raises(
        ConfigError, match=r"^there is no task 'mod'\. Did you mean 'mood'\? Available: mood, near, same\.$"
    ):
        choose(tasks, ["near", "mod"])


def test_an_optional_task_is_chosen_only_by_its_name(tmp_path: Path) -> None:
    tasks = declare(tmp_path, TASKS.replace("[tasks.same]", "optional = true\n[tasks.same]"))
    assert list(choose(tasks, None)) == ["same", "near"]
    assert list(choose(tasks, ["mood"])) == ["mood"]
    alone = {"mood": tasks["mood"]}
    assert choose(alone, None) == alone


def test_cfimdb_with_its_long_texts_is_optional(course: Path) -> None:
    assert list(choose(find_tasks(course), None)) == ["sst", "quora", "sts"]


@pytest.mark.parametrize("name", ["sst2", "so-so", "a_b", "A"])
def test_a_name_may_have_letters_digits_and_two_signs(tmp_path: Path, name: str) -> None:
    assert name in declare(tmp_path, TASKS.replace("tasks.mood", f"tasks.{name}"))


@pytest.mark.parametrize("name", ["a/b", "../up", "a b", "1st", "-x", "a.b", "naïve", "a\\n", ""])
def test_a_name_that_could_not_be_a_file_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="a name is made of letters, digits"):
        declare(tmp_path, TASKS.replace("tasks.mood", f'tasks."{name}"'))
