"""Prepare: which rows a task takes, what is read off its labels, and which rows are held out - each counted and said."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.base.errors import ConfigError, DataError
from regkit.data.declare import TaskSpec, read_again
from regkit.data.find import find_tasks
from regkit.data.holdout import hold_out
from regkit.data.labels import stated
from regkit.data.prepare import prepare
from regkit.data.prepared import Prepared
from tests.helpers import PATIENT, write_csv

Rows = Sequence[Mapping[str, object]]


def prepared(folder: Path, train: Rows, *, dev: Rows | float = (), test: Rows = (), **spec: Any) -> Prepared:
    found: dict[str, Any] = {"dev": dev} if isinstance(dev, float) else {}
    for name, split in (("train", train), ("dev", dev), ("test", test)):
        if split and not isinstance(split, float):
            found[name] = write_csv(folder / f"{name}.csv", split)
    return prepare(TaskSpec(**{"text": "text", "label": "label", **found, **spec}))


def rows(*labels: object) -> list[dict[str, object]]:
    return [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]


def texts(found: Prepared, split: Any) -> list[str]:
    return [text for (text,) in found.texts(split)]


def test_rows_are_left_out_by_label_and_where_something_is_missing_and_counted_by_reason(tmp_path: Path) -> None:
    train = [*rows("yes", "-", "no", "-", ""), {"text": " ", "label": "yes"}]
    found = prepared(tmp_path, train, skip=["-"], skip_empty=True)
    assert not [note for note in found.notes if "which skip shall" in note]
    unknown = "no row is labelled 'none' or '?', which skip shall leave out"
    assert unknown in prepared(tmp_path, train, skip=["-", "none", "?"], skip_empty=True).notes
    assert texts(found, "train") == ["text 0", "text 2"]
    assert "train: 4 of 6 rows are left out: 2 labelled '-', 1 without label, 1 without text" in found.notes
    assert found.tables["train"].lines == [2, 4]
    with pytest.raises(DataError, match=r"train\.csv: every row is left out: 1 labelled '-'\.$"):
        prepared(tmp_path, rows("-"), skip=["-"])


@pytest.mark.parametrize(("label", "skip"), [("-1", -1), ("-1.0", -1), ("0.5", 0.5)])
def test_a_label_to_leave_out_may_be_a_number(label: str, skip: float, tmp_path: Path) -> None:
    assert texts(prepared(tmp_path, rows("yes", label, "no"), skip=[skip]), "train") == ["text 0", "text 2"]


def test_rows_are_taken_by_the_values_of_other_columns(tmp_path: Path) -> None:
    train = [
        {**row, "answer": answer, "n": n}
        for n, (row, answer) in enumerate(zip(rows(0, 1, 1), ("accept", "reject", "accept"), strict=True))
    ]
    found = prepared(tmp_path, train, where={"answer": "accept"})
    assert texts(found, "train") == ["text 0", "text 2"]
    assert "train: 1 of 3 rows are left out: 1 whose answer is not accept" in found.notes
    assert texts(prepared(tmp_path, train, where={"answer": ["reject", "ignore"], "n": 1}, kind="binary"), "train") == [
        "text 1"
    ]
    with pytest.raises(DataError, match=r"no column 'anser'\. Did you mean 'answer'\?"):
        prepared(tmp_path, train, where={"anser": "accept"})


@pytest.mark.parametrize(
    ("written", "wanted", "taken"),
    [
        (("True", "False", "1", "no"), True, [0, 2]),
        (("True", "False", "1", "no"), False, [1, 3]),
        (("1", "1.0", "2", "01"), 1, [0, 1, 3]),
        (("en", "EN", "de", "en "), "en", [0, 3]),
        (("1.5", "1.50", "x", ""), (1.5, "x"), [0, 1, 2]),
    ],
)
def test_a_value_of_another_column_is_read_as_labels_are(
    written: Sequence[str], wanted: Any, taken: list[int], tmp_path: Path
) -> None:
    train = [{**row, "of": each} for row, each in zip(rows(*"abab"), written, strict=True)]
    assert texts(
        prepared(tmp_path, train, where={"of": wanted}, kind="classification", classes=["a", "b"]), "train"
    ) == [f"text {number}" for number in taken]


def test_what_is_wanted_of_another_column_is_said_as_it_was_written(tmp_path: Path) -> None:
    train = [{**row, "ok": "False"} for row in rows("a", "b")]
    with pytest.raises(DataError, match=r"every row is left out: 2 whose ok is not true\.$"):
        prepared(tmp_path, train, where={"ok": True})


@pytest.mark.parametrize(
    ("labels", "skip", "classes"),
    [
        ((*("-1.0", "0.0", "1.0", "2.0"), "-1"), "-1", 3),
        (("NA", "na", "good", "bad"), "NA", ("bad", "good")),
        (("0", "0.0", "1", "2", "3"), "0", ("1", "2", "3")),
        (("Yes", "no", "NO", "maybe"), "no", ("maybe", "Yes")),
        (("Yes", "no ", "no", "maybe"), " no ", ("maybe", "Yes")),
        (("yes", "no", '["yes", "no"]', "no"), ["yes", "no"], ("no", "yes")),
    ],
)
def test_a_label_is_skipped_however_a_table_writes_it(
    labels: Sequence[str], skip: object, classes: object, tmp_path: Path
) -> None:
    assert prepared(tmp_path, rows(*labels), skip=[skip]).spec.classes == classes


def test_a_code_keeps_its_zeros_and_spellings_that_only_look_like_one_number_stay_apart(tmp_path: Path) -> None:
    assert prepared(tmp_path, rows("01", "02", "11")).spec.classes == ("01", "02", "11")
    assert prepared(tmp_path, rows("1e2", "100", "7.0", "7")).spec.classes == ("7", "100", "1e2")
    assert prepared(tmp_path, rows("00", "01")).spec.kind == "classification"
    assert prepared(tmp_path, rows(*(f"0{number}" for number in range(1000, 1030)))).spec.kind == "classification"


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (
            ('["a", "b"]', '["b"]'),
            'line 2: label is ["a", "b"]; a list needs the kind multilabel or soft, as by --kind.',
        ),
        (('{"a": 0.3}', '{"a": 0.7}'), 'line 2: label is {"a": 0.3}; an object is no label.'),
        (
            ("0.5", *["1.5"] * 18, "3.5."),
            "line 21: label is '3.5.', and nearly all others are numbers; correct it, or say",
        ),
        (
            ("0.5", *["1.5"] * 18, "12%"),
            "line 21: label is '12%', and nearly all others are numbers; correct it, or say",
        ),
        (
            ("0.5", *["1.5"] * 18, "NA"),
            "skip = ['NA'] in a tasks.toml leaves such rows out, or say --kind classification.",
        ),
        (("0,5", "1,25", "3"), "line 2: label is '0,5'; a score has a decimal point, and classes need --kind"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_the_line(labels: Sequence[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        prepared(tmp_path, rows(*labels))


@pytest.mark.parametrize(
    "labels",
    [("1", "2", "3", "4 stars"), ("a,b", "b"), ("[a]", "b"), (*["1"] * 19, "x"), ("1,2", "x"), ("0.5", "1.5", "high")],
)
def test_labels_that_may_be_classes_are_read_as_such(labels: Sequence[str], tmp_path: Path) -> None:
    assert prepared(tmp_path, rows(*labels)).spec.kind == "classification"


def test_lists_that_are_none_of_names_are_refused_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'line 3: label is \["a", null\]; a list of names or numbers is needed\.$'):
        prepared(tmp_path, rows('["a", "b"]', '["a", null]'), kind="multilabel")


def test_scores_that_are_too_large_are_told_from_a_range_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"label is from 0 to 3e\+12; scores up to 1e\+09 are learned: divide them, or use --kind"
    ):
        prepared(tmp_path, rows("0", "3000000000000"), kind="regression")


def test_a_score_with_a_comma_is_told_from_any_other_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 3: label is '0,5'; a regression needs numbers, with a decimal point\.$"):
        prepared(tmp_path, rows("1", "0,5"), kind="regression")


@pytest.mark.parametrize("placeholder", ["", "-1", "-1.0", "0"])
def test_a_test_split_whose_labels_are_placeholders_has_none_and_that_is_said(tmp_path: Path, placeholder: str) -> None:
    found = prepared(tmp_path, rows(0, 1), test=rows(placeholder, placeholder), skip_empty=True)
    assert found.unlabelled == {"test"}
    assert len(found.tables["test"].rows) == 2
    assert any(note.startswith("test: every label is ") for note in found.notes)
    assert not prepared(tmp_path, rows(0, 1), test=rows(placeholder or "1", 1)).unlabelled


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        (["0", "1", "1.0"], "binary", None),
        (["10", "9", "9", "10.0"], "classification", ("9", "10")),
        (["0", "1", "2", "1"], "classification", 3),
        (["1", "2", "5"], "classification", ("1", "2", "5")),
        (["b", "a", "B ", "B"], "classification", ("a", "B")),
        (["0.5", "1", "2"], "regression", None),
        ([str(number) for number in range(21)], "regression", None),
    ],
)
def test_kind_and_classes_are_read_off_the_labels_and_said(
    tmp_path: Path, labels: list[str], kind: str, classes: object
) -> None:
    found = prepared(tmp_path, rows(*labels))
    assert (found.spec.kind, found.spec.classes) == (kind, classes)
    assert not found.spec.is_open
    assert any(note.startswith(f"read off label: {kind}") for note in found.notes)


@pytest.mark.parametrize(
    ("kind", "labels", "classes"),
    [
        ("ordinal", ["10", "9", "2", "9.0"], ("2", "9", "10")),
        ("ordinal", ["2", "0", "1"], 3),
        ("multilabel", ["sweet|hot", "", "Hot|hot", '["new, old"]'], ("hot", "new, old", "sweet")),
        ("multilabel", ["b, a", "c"], ("a", "b", "c")),
        ("multilabel", ["0 ; 2", "1"], 3),
    ],
)
def test_classes_in_an_order_or_in_lists_are_read_off_too_and_read_again(
    tmp_path: Path, kind: Any, labels: list[str], classes: object
) -> None:
    spec = TaskSpec(text="text", label="label", kind=kind, train=write_csv(tmp_path / "t.csv", rows(*labels)))
    found = prepare(spec)
    assert found.spec.classes == classes
    assert all(found.spec.objective.label(each) is not None for each in found.labels("train"))
    assert read_again({"t": spec}, {"t": stated(found.spec.objective)}) == {"t": found.spec}


@pytest.mark.parametrize(
    ("kind", "labels", "said"),
    [
        ("ordinal", ["low", "mid", "high"], "has the class 'high', which is no number, .* in a tasks.toml, the lowest"),
        ("ordinal", ["1", "2"], "an ordinal task needs three classes or more"),
        ("multilabel", ["[0, 1]", "[1, 1]"], "has 0 and 1 only, .* name them in a tasks.toml"),
        ("multilabel", ["a", "a|a"], "every label is a; nothing can be learned"),
    ],
)
def test_what_a_kind_cannot_read_off_its_labels_is_refused_with_the_remedy(
    tmp_path: Path, kind: Any, labels: list[str], said: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        prepared(tmp_path, rows(*labels), kind=kind)


def test_classes_are_those_of_the_training_file_before_dev_rows_are_held_out(tmp_path: Path) -> None:
    found = prepared(tmp_path, rows("a", "a", "a", "b", "b", "c"), dev=0.4, kind="classification")
    assert found.spec.classes == ("a", "b", "c")
    assert set(found.labels("dev")) == {"a", "b"}


def test_a_range_is_that_of_training_and_dev_scores(tmp_path: Path) -> None:
    assert prepared(tmp_path, rows("0.5", "4"), dev=rows("5", "1"), kind="regression").spec.range == (0.5, 5.0)
    with pytest.raises(DataError, match=r"train\.csv, line 3: label is 'x'; a regression needs numbers\."):
        prepared(tmp_path, rows("1", "x"), kind="regression")
    with pytest.raises(DataError, match=r"every label is 2; nothing can be learned from it\."):
        prepared(tmp_path, rows("2", "2.0"), kind="regression")


def test_a_column_of_ten_thousand_different_values_is_no_column_of_classes(tmp_path: Path) -> None:
    many = rows(*(f"title {number}" for number in range(10_000)))
    with pytest.raises(
        DataError, match=r"label has 10000 different values, too many .*; declare them, name another --label, or "
    ):
        prepared(tmp_path, many)
    with pytest.raises(DataError, match=r"every label is yes; nothing can be learned"):
        prepared(tmp_path, rows("yes", "yes"))


def test_what_was_read_off_completes_the_same_task_again(tmp_path: Path) -> None:
    for labels in (("x", "y"), ("1", "0"), ("0.5", "2.5"), ("0", "1", "2")):
        spec = TaskSpec(text="text", label="label", train=write_csv(tmp_path / "t.csv", rows(*labels)))
        found = prepare(spec).spec
        assert read_again({"t": spec}, {"t": stated(found.objective)}) == {"t": found}
    with pytest.raises(ConfigError, match=r"^labels\.t: kind is 'x'; "):
        read_again({"t": spec}, {"t": {"kind": "x"}})


def test_a_class_that_only_dev_has_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    found = prepared(tmp_path, rows("a", "b"), dev=rows("a", "c"))
    with pytest.raises(ValueError, match="one of a, b"):
        found.spec.objective.label(found.labels("dev")[1])


LABELS = st.lists(st.sampled_from("abc"), min_size=8, max_size=60).filter(
    lambda found: max(map(found.count, "abc")) > 1
)


@PATIENT
@given(LABELS, st.floats(0.01, 0.9), st.randoms())
def test_a_share_of_each_class_is_held_out_whatever_the_order_of_the_rows(
    labels: list[str], share: float, random: Any
) -> None:
    groups = [f"text {number}" for number in range(len(labels))]
    chosen = hold_out(share, labels, groups)
    assert chosen == sorted(set(chosen))
    for name in set(labels):
        count, held = labels.count(name), [labels[row] for row in chosen].count(name)
        assert held <= max(count - 1, 0)
        assert abs(held - share * count) < 2 or len(chosen) == 1
    order = list(range(len(labels)))
    random.shuffle(order)
    again = hold_out(share, [labels[row] for row in order], [groups[row] for row in order])
    assert {groups[order[row]] for row in again} == {groups[row] for row in chosen}


@pytest.mark.parametrize(
    ("kind", "label", "share"),
    [
        ("soft", lambda n: f"[{n / 100}, {1 - n / 100}]", "are held out, rows of one"),
        ("multilabel", lambda n: "|".join(name for bit, name in enumerate("abcdefg") if n >> bit & 1), "each set of"),
        ("regression", lambda n: n / 100, "are held out, rows of one"),
        ("binary", lambda n: ("1", "yes", "Yes", "0", "no", "0.0")[n % 6] if n > 1 else "tT"[n], "each class"),
    ],
)
def test_the_share_that_is_asked_for_is_held_out_however_many_different_labels_there_are(
    tmp_path: Path, kind: Any, label: Any, share: str
) -> None:
    more = {"soft": {"classes": 2}, "multilabel": {"classes": tuple("abcdefg")}}.get(kind, {})
    found = prepared(tmp_path, rows(*map(label, range(100))), dev=0.2, kind=kind, **more)
    assert len(found.tables["dev"].rows) == 20
    assert any(share in note for note in found.notes)


def test_rows_of_one_group_and_rows_of_one_text_are_never_divided(tmp_path: Path) -> None:
    train = [{"text": f"t{n // 2}", "label": "ab"[n % 2], "user": f"u{n % 10}"} for n in range(100)]
    for group in (None, "user"):
        found = prepared(tmp_path, train, dev=0.2, group=group, kind="classification", classes=("a", "b"))
        column = group or "text"
        held, kept = ({row[column] for row in found.tables[split].rows} for split in ("dev", "train"))
        assert not held & kept
        assert 15 <= len(found.tables["dev"].rows) <= 25
        assert any(f"rows of one {column} together; equal for every seed" in note for note in found.notes)


def test_rows_that_are_held_out_are_not_training_rows_even_if_only_these_are_asked_for(tmp_path: Path) -> None:
    spec = TaskSpec(text="text", label="label", dev=0.5, train=write_csv(tmp_path / "t.csv", rows("a", "b", "a", "b")))
    alone, both = prepare(spec, ["train"]), prepare(spec)
    assert list(alone.tables) == ["train"]
    assert texts(alone, "train") == texts(both, "train")
    assert len(texts(both, "train")) == len(texts(both, "dev")) == 2


def test_one_row_a_class_cannot_be_divided_and_that_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"train\.csv: no dev split can be made of it: a row of each .* of one text stay together; name a file for dev, or set dev = 0\.$",
    ):
        prepared(tmp_path, rows("a", "b", "c"), dev=0.1)
    same = [{"text": f"t{n}", "label": n % 2, "user": "me"} for n in range(9)]
    with pytest.raises(DataError, match=r"can be made of it: .* rows of one user stay together"):
        prepared(tmp_path, same, dev=0.1, group="user")


def test_rows_that_are_chosen_keep_their_places_among_all(tmp_path: Path) -> None:
    train = [{"text": f"t{n}", "label": "-" if n in (2, 5) else n % 2} for n in range(40)]
    found = prepared(tmp_path, train, dev=0.2, skip=("-",))
    for table in (found.tables["train"], found.tables["dev"]):
        assert [f"t{table.number(row)}" for row in range(len(table.rows))] == [row["text"] for row in table.rows]


def test_rows_with_the_same_text_and_other_labels_are_counted(tmp_path: Path) -> None:
    train = [{"text": "a b"[n % 2 :: 2] if n < 9 else f"t{n}", "label": ("yes", "Yes", "no")[n % 3]} for n in range(30)]
    assert "9 train rows have a text that stands with another label in another row" in prepared(tmp_path, train).notes
    same = [{**row, "label": "yes" if row["label"] != "no" or "t" not in row["text"] else "no"} for row in train]
    assert not any("another label" in note for note in prepared(tmp_path, same).notes)


def test_texts_in_both_splits_and_rows_that_stand_twice_are_counted(tmp_path: Path) -> None:
    train = [*rows(0, 1, 0), *rows(0)]
    new = {"text": "new", "label": 0}
    found = prepared(tmp_path, train, dev=[*rows(0, 1), new], test=[*rows(0), new, new], id="label")
    assert "1 train rows have a text that stands in an earlier row" in found.notes
    assert "2 of 3 dev rows have a text that is also in train" in found.notes
    assert "1 of 3 test rows have a text that is also in train" in found.notes
    assert "2 train rows have the id of an earlier row" in found.notes


def test_only_files_that_are_needed_are_read(tmp_path: Path) -> None:
    train, nowhere = write_csv(tmp_path / "train.csv", rows("a", "b", "a", "b")), tmp_path / "nowhere.csv"
    closed = {"text": "text", "label": "label", "kind": "classification", "classes": ("a", "b")}
    assert list(prepare(TaskSpec(**closed, train=nowhere, dev=train), ["dev"]).tables) == ["dev"]
    assert list(prepare(TaskSpec(**closed, train=train, dev=0.5), ["dev"]).tables) == ["dev"]
    with pytest.raises(DataError, match=r"nowhere\.csv does not exist"):
        prepare(TaskSpec(text="text", label="label", train=nowhere, dev=train), ["dev"])


def test_what_is_there_and_is_no_file_is_not_said_to_be_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe is neither a file nor a folder; --data takes a table"):
        find_tasks(tmp_path / "pipe")
    with pytest.raises(DataError, match="none does not exist; --data takes a table"):
        find_tasks(tmp_path / "none")
