"""Declare: from files to tasks - the course's folder, a tasks.toml, the demo."""

import re
from pathlib import Path

import pytest

from regkit.base.errors import ConfigError, DataError
from regkit.data.declare import SPLITS, TaskSpec
from regkit.data.find import choose, find_tasks
from regkit.tasks.objectives import (
    KINDS,
    Binary,
    Classification,
    Multilabel,
    Objective,
    Ordinal,
    Regression,
    SoftLabels,
)
from regkit.tasks.scores import SCORES
from tests.helpers import TASKS, slow_but, write_csv, write_tasks

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


@pytest.mark.parametrize("name", slow_but(ROWS, ["sts", "cfimdb"]))
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
    labels = {task.objective.label(row[task.label]) for row in task.table("dev").rows}
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


@pytest.mark.parametrize(
    ("declared", "objective"),
    [
        ('kind = "multilabel"\nlabel = ["sweet", "sour"]', Multilabel(2, ("sweet", "sour"))),
        ('kind = "multilabel"\nlabel = ["s1", "s2"]\nclasses = ["sweet", "sour"]', Multilabel(2, ("sweet", "sour"))),
        ('kind = "multilabel"\nlabel = "tags"\nclasses = 9\nmetric = "auc"', Multilabel(9, metric="auc")),
        ('kind = "ordinal"\nlabel = "stars"\nclasses = 5', Ordinal(5)),
        ('kind = "ordinal"\nlabel = "stars"\nclasses = ["1", "2", "3"]\nmetric = "mae"', Ordinal(3, ("1", "2", "3"), metric="mae")),
        ('kind = "soft"\nlabel = ["p_neg", "p_pos"]', SoftLabels(2, ("p_neg", "p_pos"))),
        ('kind = "soft"\nlabel = "shares"\nclasses = 3\nmetric = "kl"', SoftLabels(3, metric="kl")),
        ('kind = "binary"\nlabel = "spam"\nclasses = ["ham", "spam"]', Binary(("ham", "spam"))),
        ('kind = "binary"\nlabel = "spam"\nmetric = "f1"', Binary(metric="f1")),
        ('kind = "regression"\nlabel = "x"\nrange = [0, 1]\nmetric = "spearman"', Regression(0, 1, "spearman")),
        ('kind = "classification"\nlabel = "x"\nclasses = 3\nmetric = "macro_f1"', Classification(3, metric="macro_f1")),
    ],
)  # fmt: skip
def test_a_task_says_its_classes_and_the_score_that_decides(
    tmp_path: Path, declared: str, objective: Objective
) -> None:
    found = declare(tmp_path, f'[tasks.t]\ntext = "text"\ntrain = "t.csv"\n{declared}')["t"].objective
    assert (found, found.metric) == (objective, objective.metric)


@pytest.mark.parametrize(
    ("declared", "weights"),
    [
        ('kind = "binary"\nclass_weights = "balanced"', "balanced"),
        ('kind = "binary"\nclass_weights = {yes = 3}', (1, 3)),
        ('kind = "binary"\nclasses = ["ham", "spam"]\nclass_weights = {SPAM = 3}', (1, 3)),
        ('kind = "ordinal"\nclasses = 3\nclass_weights = {2 = 3, 0 = 0.5}', (0.5, 1, 3)),
        ('kind = "classification"\nclasses = 3\nclass_weights = [1, 2, 3]', (1, 2, 3)),
        ('kind = "multilabel"\nclasses = ["a", "b"]\nclass_weights = {b = 9}', (1, 9)),
        ('kind = "multilabel"\nclasses = ["a", "b"]', None),
    ],
)
def test_weights_are_given_by_name_or_in_the_order_of_the_classes(
    tmp_path: Path, declared: str, weights: object
) -> None:
    assert declare(tmp_path, f'[tasks.t]\ntext = "x"\nlabel = "y"\ntrain = "t.csv"\n{declared}')["t"].weights == weights


MISFITS = [
    ('kind = "multi"', "kind is 'multi'; input should be 'classification', 'binary', "),
    ('kind = "classification"\nclasses = ["a"]', "classes is ['a']; list should have at least 2 items"),
    ('kind = "classification"\nclasses = ["a", 2]', "classes.1 is 2; input should be a valid string."),
    ('kind = "classification"\nclasses = 1', "classes is 1; input should be greater than or equal to 2."),
    ('kind = "classification"\nclasses = ["0", "0 "]', "classes names '0' twice."),
    ('skip = "0"', "skip is '0'; input should be a valid list."),
    ("skip = [true]", "skip.0 is True; input should be a valid string."),
    ('where = {flag = []}', "where.flag is []; list should have at least 1 item after validation, not 0."),
    ('dev = [1]', "dev.0 is 1; input "),
    ('label = "x"', "text and label name the column 'x' twice; each has a column of its own."),
    ('kind = "soft"', "a soft task needs 'classes', their names or their number, which a tasks.toml declares."),
    ('kind = "ordinal"\nclasses = 2', "an ordinal task needs three classes or more; two are for the kind binary."),
    ('kind = "multilabel"\nclasses = 2', "a multilabel task of two classes needs their names."),
    ('kind = "multilabel"\nlabel = ["a"]', "a multilabel task with label columns needs two or more; one alone is for the kind binary."),
    ('kind = "multilabel"\nlabel = ["a", "b", "a"]', "label names column 'a' twice."),
    ('kind = "soft"\nlabel = ["a", "b"]\nclasses = 3', "label names 2 columns, and there are 3 classes."),
    ('kind = "classification"\nlabel = ["a", "b"]', "a classification task has one label column; several are for the kinds multilabel and soft."),
    ('kind = "regression"\nlabel = ["a", "b"]', "a regression task has one label column; several are for the kinds multilabel and soft."),
    ('kind = "regression"\nrange = [0, 1]\nclasses = 2', "a regression task has a range, and no classes."),
    ('kind = "binary"\nrange = [0, 1]', "a binary task has classes, and no range."),
    ('kind = "binary"\nclasses = 3', "a binary task has two classes, of which the second is yes."),
    ('kind = "binary"\nmetric = "f2"', "metric is 'f2', no score of a binary task. Available: accuracy, auc, f1, loss."),
    ('kind = "ordinal"\nclasses = 3\nmetric = "acuracy"', "metric is 'acuracy', no score of an ordinal task. Did you mean 'accuracy'?"),
    ('kind = "binary"\nclass_weights = "balance"', "class_weights is 'balance'; \"balanced\", or a number from 1e-6 to 1e6 for each class, is needed."),
    ('kind = "binary"\nclass_weights = [1, 0]', "class_weights is [1, 0]; \"balanced\", or a number from"),
    ('kind = "binary"\nclass_weights = [1, true]', "class_weights is [1, True]; \"balanced\", or a number from"),
    ('kind = "binary"\nclass_weights = {yes = "much"}', "class_weights is {'yes': 'much'}; \"balanced\", or a number from"),
    ('kind = "binary"\nclass_weights = []', "class_weights has 0 weights, and there are 2 classes."),
    ('kind = "regression"\nclass_weights = [1]', "class_weights are for kinds whose labels are classes, and those of a regression task are numbers."),
    ('kind = "binary"\nclass_weights = [1]', "class_weights has 1 weights, and there are 2 classes."),
    ('kind = "binary"\nclasses = ["ham", "spam"]\nclass_weights = {spm = 2}', "class_weights has a weight of 'spm', and there is no such class. Did you mean 'spam'? Available: ham, spam."),
    ('kind = "soft"\nclasses = 3\nclass_weights = "balanced"', "class_weights are for kinds whose labels are classes, and those of a soft task are numbers."),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "said"), MISFITS)
def test_what_does_not_belong_to_a_kind_is_refused_in_a_sentence(tmp_path: Path, declared: str, said: str) -> None:
    label = "" if "label" in declared.replace("multilabel", "") else 'label = "y"\n'
    with pytest.raises(ConfigError) as caught:
        declare(tmp_path, f'[tasks.t]\ntext = "x"\ntrain = "t.csv"\n{label}{declared}')
    assert str(caught.value).startswith(f"{tmp_path}/tasks.toml: task 't': {said}")
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith("..")


@pytest.mark.parametrize("name", ["zlib", "rot13", "hex", "undefined", "unicode_escape", "idna", "utf-9", "a\\u0000b"])
def test_an_encoding_that_is_none_of_text_files_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"encoding is .*; no such encoding of text is known; utf-8, utf-16, cp1252 and"
    ):
        declare(tmp_path, f'[tasks.t]\ntext = "x"\nlabel = "y"\ntrain = "t.csv"\nencoding = "{name}"')


PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


def test_the_page_of_tasks_declares_a_task_of_every_kind(tmp_path: Path) -> None:
    (declared,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf8"), re.DOTALL)
    assert sorted(task.kind for task in declare(tmp_path, declared).values()) == sorted(
        SCORES.keys() - {"masked words"}
    )


def test_the_page_of_tasks_names_the_scores_of_every_kind_and_the_one_that_decides() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| \*\*(\w+)\*\*, ([\w, ]+) \|$", PAGE.read_text(encoding="utf8"), re.MULTILINE)
    found = {kind: (decides, {decides, *others.split(", "), "loss"}) for kind, decides, others in rows}
    own = {kind: form.metric for kind, form in KINDS.items() if kind != "masked words"}
    assert found == {kind: (decides, set(SCORES[kind])) for kind, decides in own.items()}


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
