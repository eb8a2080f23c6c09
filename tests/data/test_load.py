"""Load: a task's files become sequences of token ids, cut to what the encoder reads, with every label checked."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordPiece

from regkit.base.errors import DataError
from regkit.data.declare import TaskSpec
from regkit.data.find import find_tasks
from regkit.data.load import load_task
from regkit.model.tokenizer import Tokenizer
from regkit.model.tokenizer_classes import template
from regkit.tasks.task import Examples
from tests.helpers import LONGEST, PATIENT, VOCABULARY, write_csv, write_encoder, write_tasks

ONE = {"kind": "classification", "classes": 3, "text": "text", "label": "label"}
PAIR = {"kind": "regression", "range": (0, 5), "text": ("one", "two"), "label": "label"}
Rows = Sequence[Mapping[str, object]]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """One token a letter."""
    return Tokenizer.load(write_encoder(tmp_path_factory.mktemp("encoder") / "tiny"))


def load(folder: Path, tokenizer: Tokenizer, rows: Rows, longest: int = LONGEST, **spec: Any) -> Examples:
    """The rows as the training split of a task."""
    declared = TaskSpec(**spec, train=write_csv(folder / "train.csv", rows))
    return load_task("t", declared, tokenizer, longest).splits["train"]


def words(examples: Examples) -> list[str]:
    """Each sequence as text, `[` for [CLS] and `]` for [SEP]."""
    marks = {"[CLS]": "[", "[SEP]": "]"}
    found = []
    for start, stop in zip(examples.offsets, examples.offsets[1:], strict=False):
        tokens = [VOCABULARY[number] for number in examples.tokens[start:stop]]
        found.append("".join(marks.get(token, token.removeprefix("##")) for token in tokens))
    return found


def segments(examples: Examples) -> list[str]:
    parts = np.split(examples.segments, examples.offsets[1:-1])
    return ["".join(map(str, part)) for part in parts]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["abcdefghij" * 10 + " 😀", "b"], []),  # 1 of 102
        (["abcdefghi 😀", "b" * 10], ["5 % of the tokens of the train texts are words that the tokenizer does not know."]),
        (["a 😀", "😀 😀"], ["75 % of the tokens of the train texts are words that the tokenizer does not know; is the encoder one for this language?"]),
    ],
)  # fmt: skip
def test_unknown_words_are_counted_and_their_share_is_said(
    tmp_path: Path, tokenizer: Tokenizer, texts: list[str], said: list[str]
) -> None:
    rows = [{"text": text, "label": number} for number, text in enumerate(texts)]
    task = load_task("t", TaskSpec(**ONE, train=write_csv(tmp_path / "train.csv", rows)), tokenizer, 200)
    assert [note for note in task.notes if "tokens" in note] == said


def test_special_tokens_do_not_count_as_known_words_of_a_pair(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"one": "😀", "two": "😀", "label": 0}, {"one": "a", "two": "b", "label": 1}]
    for mode in ("bi_encoder", "cross_encoder"):
        declared = TaskSpec(**PAIR, pair_mode=mode, train=write_csv(tmp_path / "train.csv", rows))
        (said,) = [note for note in load_task("t", declared, tokenizer, 200).notes if "tokens" in note]
        assert said.startswith("50 % of the tokens")


def test_a_pair_is_joined_and_cut_as_the_tokenizer_joins_pairs(tmp_path: Path, tokenizer: Tokenizer) -> None:
    other = Tokenizer.load(write_encoder(tmp_path / "other"))
    other.backend.post_processor = template(other.backend, "[CLS]", "[SEP]", doubled=True)
    examples = load(
        tmp_path,
        Tokenizer(other.backend),
        [{"one": "abcdef", "two": "gh", "label": 0}, {"one": "a", "two": "b", "label": 1}],
        10,
        **PAIR,
    )
    assert words(examples) == ["[abcd]]gh]", "[a]]b]"]
    assert segments(examples) == ["0000000111", "000011"]


def test_a_text_stands_between_its_marks(tmp_path: Path, tokenizer: Tokenizer) -> None:
    examples = load(tmp_path, tokenizer, [{"text": "ab", "label": 0}, {"text": "Cde", "label": 2}], **ONE)
    assert words(examples) == ["[ab]", "[cde]"]
    assert segments(examples) == ["0000", "00000"]
    assert (len(examples), examples.sides, examples.truncated) == (2, 1, 0)
    assert examples.lengths().tolist() == [4, 5]


def test_a_pair_read_together_is_one_sequence_of_two_segments(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"one": "ab", "two": "c", "label": 0}, {"one": "d", "two": "efg", "label": 5}]
    for mode in ({}, {"pair_mode": "cross_encoder"}):
        examples = load(tmp_path, tokenizer, rows, **PAIR, **mode)
        assert words(examples) == ["[ab]c]", "[d]efg]"]
        assert segments(examples) == ["000011", "0001111"]
        assert (len(examples), examples.sides) == (2, 1)


def test_a_pair_read_apart_is_two_sequences_side_by_side(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"one": "ab", "two": "c", "label": 0}, {"one": "d", "two": "efg", "label": 5}]
    examples = load(tmp_path, tokenizer, rows, **PAIR, pair_mode="bi_encoder")
    assert words(examples) == ["[ab]", "[c]", "[d]", "[efg]"]
    assert not examples.segments.any()
    assert (len(examples), examples.sides) == (2, 2)
    assert examples.lengths().tolist() == [7, 8]


def test_a_task_knows_how_its_pairs_are_read(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tasks = find_tasks(write_tasks(tmp_path / "data"))
    modes = [load_task(name, spec, tokenizer, LONGEST).pair_mode for name, spec in tasks.items()]
    assert modes == [None, "cross_encoder", "bi_encoder"]


@pytest.mark.parametrize("length", [8, 9, 20])
def test_a_long_text_is_cut_at_its_end_and_counted(tmp_path: Path, tokenizer: Tokenizer, length: int) -> None:
    texts = ["abcdefghijklmnopqrstuvwxyz"[: length - 2 + more] for more in (-1, 0, 1, 5)]
    examples = load(tmp_path, tokenizer, [{"text": t, "label": n % 3} for n, t in enumerate(texts)], length, **ONE)
    assert words(examples) == [f"[{text[: length - 2]}]" for text in texts]
    assert examples.truncated == 2


def shorten(first: str, second: str, room: int) -> tuple[str, str]:
    """One token after the other, from the longer text; from the second where both are alike."""
    while len(first) + len(second) > room:
        if len(first) > len(second):
            first = first[:-1]
        else:
            second = second[:-1]
    return first, second


TEXT = st.text("abcxyz", min_size=1, max_size=24)


@PATIENT
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8), st.integers(8, 30))
def test_a_long_pair_loses_tokens_of_its_longer_text_first(pairs: list[tuple[str, str]], longest: int) -> None:
    from regkit.data.encode import _sequences

    cls, sep = 0, 1
    words = {"[CLS]": cls, "[SEP]": sep, "[UNK]": 2}
    fake = Tokenizer(Backend(WordPiece(words, unk_token="[UNK]")))
    texts = [[[ord(letter) for letter in pair[side]] for pair in pairs] for side in (0, 1)]
    sequences, was_cut = _sequences(texts, fake, longest, False)
    wanted = [shorten(one, two, longest - 3) for one, two in pairs]
    for (tokens, second), (one, two) in zip(sequences, wanted, strict=True):
        assert tokens == [cls, *map(ord, one), sep, *map(ord, two), sep]
        assert second == len(one) + 2
        assert len(tokens) <= longest
    assert was_cut == sum(pair != short for pair, short in zip(pairs, wanted, strict=True))


def test_the_sides_of_a_pair_read_apart_are_cut_each_for_itself(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"one": "abcdefghij", "two": "klm", "label": 0}, {"one": "a", "two": "b", "label": 1}]
    examples = load(tmp_path, tokenizer, rows, 8, **PAIR, pair_mode="bi_encoder")
    assert words(examples) == ["[abcdef]", "[klm]", "[a]", "[b]"]
    assert examples.truncated == 1


def test_labels_are_numbers_of_the_objectives_kind(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"text": "a", "label": " 2 "}, {"text": "b", "label": "1.0"}]
    labels = load(tmp_path, tokenizer, rows, **ONE).labels
    assert labels is not None
    assert (labels.tolist(), labels.dtype) == ([2, 1], torch.int64)
    pairs = [{"one": "a", "two": "b", "label": "2.75"}, {"one": "a", "two": "b", "label": 5}]
    labels = load(tmp_path, tokenizer, pairs, **PAIR).labels
    assert labels is not None
    assert (labels.tolist(), labels.dtype) == ([2.75, 5.0], torch.float32)


def test_classes_may_have_names(tmp_path: Path, tokenizer: Tokenizer) -> None:
    named = ONE | {"classes": ("sad", "so so", "glad")}
    rows = [{"text": "a", "label": "glad"}, {"text": "b", "label": " so so "}, {"text": "c", "label": "sad"}]
    labels = load(tmp_path, tokenizer, rows, **named).labels
    assert labels is not None
    assert labels.tolist() == [2, 1, 0]
    with pytest.raises(DataError, match=r"train\.csv, line 3: label is 'Happy'; one of sad, so so, glad is needed\.$"):
        load(tmp_path, tokenizer, [{"text": "a", "label": "Sad"}, {"text": "b", "label": "Happy"}], **named)


COLUMNS = {"kind": "multilabel", "text": "text", "label": ("sweet", "sour", "hot")}


def test_several_columns_are_a_label_for_each_or_a_share(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [
        {"text": "a", "sweet": 1, "sour": "yes", "hot": 0.0},
        {"text": "b", "sweet": 0, "sour": "No", "hot": "true"},
    ]
    assert load(tmp_path, tokenizer, rows, **COLUMNS).labels.tolist() == [[1, 1, 0], [0, 0, 1]]
    rows = [{"text": "a", "p_no": 0.25, "p_yes": "0.75"}, {"text": "b", "p_no": "1", "p_yes": 0}]
    soft = {"kind": "soft", "text": "text", "label": ("p_no", "p_yes")}
    labels = load(tmp_path, tokenizer, rows, **soft).labels
    assert (labels.tolist(), labels.dtype) == ([[0.25, 0.75], [1, 0]], torch.float32)


def test_a_list_of_labels_may_be_a_field_of_json_lines_or_parquet(tmp_path: Path, tokenizer: Tokenizer) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {"text": "a", "label": ["sweet", "hot, spicy"]},
        {"text": "b", "label": []},
        {"text": "c", "label": ["sweet"]},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf8")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    spec = {"kind": "multilabel", "text": "text", "label": "label", "classes": ("sweet", "hot, spicy")}
    for file in ("t.jsonl", "t.parquet"):
        task = load_task("t", TaskSpec(**spec, train=tmp_path / file), tokenizer, LONGEST)
        assert task.splits["train"].labels.tolist() == [[1, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("spec", "cells", "said"),
    [
        (COLUMNS, (1, 2, 0), "sweet, sour, hot is '[\"1\", \"2\", \"0\"]'; a list of any of sweet, sour, hot, or 0 or 1 for each of them, is needed."),
        (COLUMNS | {"kind": "soft"}, (1, 1, 0), "'[\"1\", \"1\", \"0\"]'; a list of shares that sum to 1, and not to 2, is needed."),
        (COLUMNS | {"kind": "soft"}, (0.5, "", 0.5), "a share for each of 3 classes, from 0 to 1, is needed."),
    ],
)  # fmt: skip
def test_cells_that_are_no_label_are_an_error_that_names_file_line_and_columns(
    tmp_path: Path, tokenizer: Tokenizer, spec: dict[str, Any], cells: tuple[object, ...], said: str
) -> None:
    names = COLUMNS["label"]
    rows = [{"text": "a", **dict(zip(names, each, strict=True))} for each in ((1, 0, 0), (0, 1, 0), cells)]
    with pytest.raises(DataError) as caught:
        load(tmp_path, tokenizer, rows, **spec)
    assert str(caught.value).startswith(f"{tmp_path}/train.csv, line 4: ")
    assert str(caught.value).endswith(said)


def test_a_label_column_that_is_not_there_is_an_error(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"has no column 'sour'\."):
        load(tmp_path, tokenizer, [{"text": "a", "sweet": 1, "hot": 0}], **COLUMNS)


def test_class_weights_are_of_the_training_rows_whatever_splits_are_read(tmp_path: Path, tokenizer: Tokenizer) -> None:
    train = write_csv(tmp_path / "train.csv", [{"text": "a", "label": label} for label in (0, 0, 0, 1, 1, 2)])
    dev = write_csv(tmp_path / "dev.csv", [{"text": "a", "label": 2}])
    for weights, wanted in (
        ("balanced", [2 / 3, 1, 2]),
        ({"2": 4.0}, [2 / 3, 2 / 3, 8 / 3]),
        ((1, 1, 4), [2 / 3, 2 / 3, 8 / 3]),
    ):
        spec = TaskSpec(**ONE, train=train, dev=dev, class_weights=weights)
        whole = load_task("t", spec, tokenizer, LONGEST)
        assert whole.objective.weights == pytest.approx(wanted)
        assert whole.notes[-1].startswith("weights of its classes in the loss: 0 0.667, 1 ")
        assert load_task("t", spec, tokenizer, LONGEST, splits=["dev"]).objective == whole.objective
    assert load_task("t", TaskSpec(**ONE, train=train), tokenizer, LONGEST).objective.weights == ()


def test_every_format_gives_the_same_examples(tmp_path: Path, tokenizer: Tokenizer) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"text": 'a "b", c', "label": n % 3, "id": f"x{n}"} for n in range(5)]
    files = [write_csv(tmp_path / "t.csv", rows), write_csv(tmp_path / "t.tsv", rows, "\t")]
    files += [tmp_path / "t.jsonl", tmp_path / "t.parquet"]
    files[2].write_text("\n".join(map(json.dumps, rows)), encoding="utf8")
    parquet.write_table(pyarrow.Table.from_pylist(rows), files[3])
    found = [load_task("t", TaskSpec(**ONE, id="id", train=file), tokenizer, LONGEST).splits["train"] for file in files]
    for examples in found:
        assert words(examples) == words(found[0])
        assert examples.labels is not None
        assert examples.labels.tolist() == [0, 1, 2, 0, 1]
        assert list(examples.ids) == ["x0", "x1", "x2", "x3", "x4"]


def test_without_an_id_column_an_example_is_called_by_its_row(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"text": "a", "label": n} for n in range(3)]
    assert list(load(tmp_path, tokenizer, rows, **ONE).ids) == ["0", "1", "2"]


def test_a_test_split_may_come_with_or_without_labels(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 2}]
    train = write_csv(tmp_path / "train.csv", rows)
    bare = write_csv(tmp_path / "bare.csv", [{"text": row["text"]} for row in rows])
    spec = TaskSpec(**ONE, train=train, test=bare)
    assert load_task("t", spec, tokenizer, LONGEST).splits["test"].labels is None
    labels = load_task("t", TaskSpec(**ONE, train=train, test=train), tokenizer, LONGEST).splits["test"].labels
    assert labels is not None
    assert labels.tolist() == [1, 2]
    with pytest.raises(DataError, match="has no column 'label'"):
        load_task("t", TaskSpec(**ONE, train=train, dev=bare), tokenizer, LONGEST)


def test_rows_of_each_class_are_counted_and_what_is_odd_about_them_is_said(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    def notes(*labels: object, **spec: Any) -> list[str]:
        rows = [{"text": f"a{number}", "label": label} for number, label in enumerate(labels)]
        declared = TaskSpec(**ONE | spec, train=write_csv(tmp_path / "t.csv", rows))
        return list(load_task("t", declared, tokenizer, LONGEST).notes)

    assert notes(0, 1, 1, 2) == ["train rows by class: 0: 1, 1: 2, 2: 1"]
    assert notes(0, 0, 2)[1:] == ["no train row is labelled 1"]
    assert notes(*[1] * 9, 0, kind="binary", classes=None) == ["train rows by class: 0: 1, 1: 9"]
    (_, said) = notes(*[1] * 19, 0, kind="binary", classes=None)
    assert said == "95 % of the train rows are labelled 1: always saying so would be as accurate"
    (counts, absent) = notes(*range(20), classes=30)
    assert counts.endswith("11: 1, and 18 classes more")
    assert absent == "no train row is labelled 20, 21, 22, 23, 24, 25, 26, 27, 28, 29"
    assert notes(0, 5, kind="regression", range=(0, 5), classes=None) == []
    said = "class 'NaN' may stand for a missing label; skip = [\"NaN\"] in a tasks.toml leaves its rows out"
    assert said in notes("good", "NaN", "bad", classes=None)
    assert len(notes("good", "NaN", "bad", classes=["bad", "good", "NaN"])) == 1, "it was declared"
    assert not any("may stand" in each for each in notes("none", "some", classes=None))


@pytest.mark.parametrize("bad", ["", " "])
def test_an_empty_id_is_an_error_that_names_the_line(tmp_path: Path, tokenizer: Tokenizer, bad: str) -> None:
    rows = [{"text": "a", "label": 0, "id": "x"}, {"text": "b", "label": 1, "id": bad}]
    with pytest.raises(DataError, match=r"train\.csv, line 3: id is empty; without id = 'id', rows are numbered\.$"):
        load(tmp_path, tokenizer, rows, **ONE, id="id")


@pytest.mark.parametrize(
    ("label", "remedy"), [("-", "skip = ['-']"), ("-1", "skip = ['-1']"), ("", "skip_empty = true")]
)
def test_a_label_that_stands_for_none_is_refused_with_the_option_that_leaves_such_rows_out(
    tmp_path: Path, tokenizer: Tokenizer, label: str, remedy: str
) -> None:
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": label}]
    with pytest.raises(DataError, match=re.escape(f"is needed; {remedy} leaves such rows out.")):
        load(tmp_path, tokenizer, rows, **ONE)


def test_only_the_splits_that_are_asked_for_are_read(tmp_path: Path, tokenizer: Tokenizer) -> None:
    train = write_csv(tmp_path / "train.csv", [{"text": "a", "label": 1}, {"text": "b", "label": 2}])
    spec = TaskSpec(**ONE, train=train, dev=tmp_path / "none.csv")
    assert list(load_task("t", spec, tokenizer, LONGEST, splits=["train", "test"]).splits) == ["train"]


def test_a_tasks_own_batch_size_comes_before_the_runs(tmp_path: Path, tokenizer: Tokenizer) -> None:
    train = write_csv(tmp_path / "train.csv", [{"text": "a", "label": 1}, {"text": "b", "label": 2}])
    sizes = [TaskSpec(**ONE, train=train, batch_size=size) for size in (None, 7)]
    assert [load_task("t", spec, tokenizer, LONGEST, batch_size=16).batch_size for spec in sizes] == [16, 7]


@pytest.mark.parametrize("text", ["", "   ", "\t"])
def test_an_empty_text_is_an_error_that_names_file_line_and_field(
    tmp_path: Path, tokenizer: Tokenizer, text: str
) -> None:
    rows = [{"one": "a\nb", "two": "b", "label": 0}, {"one": "a", "two": text, "label": 1}]
    with pytest.raises(DataError, match=r"train\.csv, line 4: two is empty; skip_empty = true leaves such rows out\.$"):
        load(tmp_path, tokenizer, rows, **PAIR)


@pytest.mark.parametrize("text", ["", "abc", "-1", "3", "1.5", "nan", "inf", "1e999", "0x1"])
def test_a_label_that_is_no_class_is_an_error_that_names_file_line_and_field(
    tmp_path: Path, tokenizer: Tokenizer, text: str
) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, tokenizer, [{"text": "a", "label": 0}, {"text": "b", "label": text}], **ONE)
    assert f"train.csv, line 3: label is '{text}'; a whole number from 0 to 2 is needed" in str(caught.value)
    assert ("skip_empty = true" in str(caught.value)) == (not text)


@pytest.mark.parametrize("text", ["", "abc", "-0.1", "5.01", "nan", "inf"])
def test_a_score_that_is_not_in_its_range_is_an_error(tmp_path: Path, tokenizer: Tokenizer, text: str) -> None:
    rows = [{"one": "a", "two": "b", "label": 0}, {"one": "a", "two": "b", "label": text}]
    with pytest.raises(DataError, match=rf"line 3: label is '{text}'; a number from 0 to 5 is needed"):
        load(tmp_path, tokenizer, rows, **PAIR)


def test_a_label_in_a_message_is_short(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, tokenizer, [{"text": "a", "label": 0}, {"text": "b", "label": "so long " * 100}], **ONE)
    assert "label is 'so long so long " in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_one_label_only_can_be_scored_and_not_learned_from(tmp_path: Path, tokenizer: Tokenizer) -> None:
    two = write_csv(tmp_path / "two.csv", [{"text": "a", "label": 1}, {"text": "b", "label": 2}])
    one = write_csv(tmp_path / "one.csv", [{"text": "a", "label": 1}, {"text": "b", "label": 1}])
    found = load_task("t", TaskSpec(**ONE, train=two, dev=one, test=one), tokenizer, LONGEST).splits
    assert [found[split].labels.tolist() for split in ("dev", "test")] == [[1, 1], [1, 1]]
    with pytest.raises(DataError, match=r"one\.csv: every label is 1; nothing can be learned from it\.$"):
        load_task("t", TaskSpec(**ONE, train=one, dev=two), tokenizer, LONGEST)


@pytest.mark.parametrize(("name", "size", "longest"), [("sst", 1101, 512), ("sts", 863, 512), ("cfimdb", 245, 256)])
def test_the_course_dev_sets_fit_a_real_vocabulary(
    course: Path, bert_tiny: Path, name: str, size: int, longest: int
) -> None:
    real = Tokenizer.load(bert_tiny)
    dev = load_task(name, find_tasks(course)[name], real, longest, splits=["dev"]).splits["dev"]
    assert len(dev) == size
    assert (dev.truncated > 0) == (dev.lengths().max() == longest) == (name == "cfimdb")
    assert dev.truncated <= (dev.lengths() == longest).sum()
    assert (dev.tokens[dev.offsets[:-1]] == real.cls).all()
    assert (dev.tokens[dev.offsets[1:] - 1] == real.sep).all()
