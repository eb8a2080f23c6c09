"""Labels: classes, lists of classes and numbers are read as tables write them, and written so that they are read again."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.tasks.labels import class_of, fields, find, write_list, yes_or_no
from regkit.tasks.objectives import Binary, Multilabel, Objective, SoftLabels

NAMES = ("sweet", "so so", "hot, spicy", "4", "4.5", "Bad", "bad", "Über")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((name, name) for name in NAMES),
        ("SWEET", "sweet"),
        ("  so so\t", "so so"),
        ("4.0", "4"),
        ("+4", "4"),
        ("4.50", "4.5"),
        ("über", "Über"),
        ("BAD", None),  # two of them mean it
        ("so  so", None),
        ("sweets", None),
        ("", None),
    ],
)
def test_a_class_is_found_by_name_or_by_what_only_one_name_means(text: str, name: str | None) -> None:
    assert find(text, NAMES) == (None if name is None else NAMES.index(name))


def test_stars_are_classes_of_their_own_numbers() -> None:
    stars = ("1", "2", "3", "4", "5")
    assert [class_of(text, 5, stars) for text in ("1", "5.0", " 3 ")] == [0, 4, 2]
    with pytest.raises(ValueError, match=r"^one of 1, 2, 3, 4, 5$"):
        class_of("0", 5, stars)


def test_many_classes_are_not_all_named_in_a_message() -> None:
    names = tuple(f"class {number}" for number in range(1000))
    with pytest.raises(ValueError, match=r"^one of class 0, class 1, ") as caught:
        class_of("no class", 1000, names)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("word", ["1", "1.0", "yes", "YES", " Yes ", "true", "True", "y", "T"])
def test_yes_has_many_words_and_no_as_many(word: str) -> None:
    opposite = {"1": "0", "1.0": "0.0", "yes": "no", "true": "false", "y": "n", "t": "f"}[word.strip().lower()]
    assert (yes_or_no(word), yes_or_no(opposite.upper())) == (1, 0)
    assert (Binary().label(word), Binary().label(opposite)) == (1, 0)


@pytest.mark.parametrize("text", ["", "2", "maybe", "yess", "nan", "-1", "0.5", "on"])
def test_what_is_neither_yes_nor_no_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^0 or 1, or yes or no,$"):
        Binary().label(text)


def test_of_two_names_the_second_is_yes() -> None:
    spam = Binary(("ham", "Spam"))
    assert [spam.label(text) for text in ("ham", "SPAM ")] == [0, 1]
    assert [spam.text(label) for label in (0, 1)] == ["ham", "Spam"]
    with pytest.raises(ValueError, match=r"^one of ham, Spam$"):
        spam.label("1")


TASTES = Multilabel(4, ("sweet", "sour", "hot, spicy", "a|b"))


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("", []),
        ("  ", []),
        ("[]", []),
        ("sour", [1]),
        ("sour,sweet", [0, 1]),
        ("Sour ;  sweet", [0, 1]),
        ("sour|hot, spicy", [1, 2]),
        ("hot, spicy", [2]),
        ("a|b;sour", [1, 3]),
        ("sour, sour", [1]),
        ('["sour", "a|b"]', [1, 3]),
        ("['sour', 'sweet']", [0, 1]),  # as Python writes a list
        ("[0, 1, 0, 1]", [1, 3]),
        ("[0.0, 1.0, 0.0, 1.0]", [1, 3]),
        ('["no", "yes", "", "1"]', None),
        ('["no", "yes", "False", "1"]', [1, 3]),
        ("[true, false, false, false]", [0]),
        ("0,0,0,1", [3]),
        ("1", None),
        ("[0, 1]", None),
        ("[2, 0, 0, 0]", None),
        ("salty", None),
        ("sour,salty", None),
        ("sour,,sweet", None),
        ('{"sour": 1}', None),
        ("[" * 100_000, None),
        ('["sour"', None),
        (r"['sour', '\d']", None),
        ("[" * 1000 + "]" * 1000, None),
    ],
)
def test_a_list_of_labels_is_read_in_every_usual_form(text: str, held: list[int] | None) -> None:
    if held is None:
        with pytest.raises(
            ValueError, match=re.escape("a list of any of sweet, sour, hot, spicy, a|b, or 0 or 1 for each of them,")
        ):
            TASTES.label(text)
    else:
        assert TASTES.label(text) == [int(place in held) for place in range(4)]


@pytest.mark.parametrize("text", ["[[1]]", '["sour", null]', '[{"name": "sour"}]', "['sour', None]"])
def test_a_list_of_something_else_is_refused_and_not_parted_at_its_commas(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a list of names or numbers$"):
        TASTES.label(text)


def test_labels_without_names_are_numbers() -> None:
    objective = Multilabel(5)
    assert (
        objective.label("[0, 3]") == objective.label("3;0.0") == objective.label("[1, 0, 0, 1, 0]") == [1, 0, 0, 1, 0]
    )
    assert objective.text([1, 0, 0, 1, 0]) == "0|3"
    with pytest.raises(ValueError, match=r"^a list of any of 0, 1, 2, 3, 4, or"):
        objective.label("[0, 5]")


def test_a_list_that_may_be_read_in_two_ways_is_refused() -> None:
    """[0, 1] may be the second of two labels, or both of those that are called 0 and 1."""
    with pytest.raises(ValueError, match="needs their names"):
        Multilabel(2)
    with pytest.raises(ValueError, match="only be read in one way"):
        Multilabel(2, ("0", "1")).label("[0, 1]")
    assert Multilabel(2, ("0", "1")).label("[1, 1]") == [1, 1]


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1, unique_by=str.casefold))
def test_whatever_the_names_are_a_list_that_is_written_is_read_again(names: list[str]) -> None:
    assert fields(write_list(names), lambda name: name in names) == names


THREE = SoftLabels(3)


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("[0.2, 0.3, 0.5]", [0.2, 0.3, 0.5]),
        ('["0.2", " 0.3", "5e-1"]', [0.2, 0.3, 0.5]),  # several columns
        ("0.2; 0.3; 0.5", [0.2, 0.3, 0.5]),
        ("[1, 0, 0]", [1, 0, 0]),
        ("[0.333, 0.333, 0.333]", [1 / 3, 1 / 3, 1 / 3]),
        ("[0.3335, 0.3335, 0.3335]", [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_shares_that_were_rounded_are_made_to_sum_to_1(text: str, shares: list[float]) -> None:
    assert THREE.label(text) == pytest.approx(shares, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("[2, 1, 0]", "sum to 1, and not to 3,"),  # votes, or labels of which several hold
        ("[20, 30, 50]", "sum to 1, and not to 100,"),
        ("[0.2, 0.3, 0.4]", "sum to 1, and not to 0.9,"),
        ("[0, 0, 0]", "sum to 1, and not to 0,"),
        ("[0.5, 0.5]", "a share for each of 3 classes"),
        ("[0.2, 0.2, 0.3, 0.3]", "a share for each of 3 classes"),
        ("[-0.2, 0.7, 0.5]", "a share for each of 3 classes"),
        ("[0.5, 0.5, NaN]", "a share for each of 3 classes"),
        ("", "a share for each of 3 classes"),
        ("neg", "a share for each of 3 classes"),
    ],
)
def test_shares_that_are_no_distribution_are_refused(text: str, needed: str) -> None:
    with pytest.raises(ValueError, match=needed):
        THREE.label(text)


@pytest.mark.parametrize("objective", [TASTES, Multilabel(3), THREE], ids=repr)
def test_a_prediction_is_written_so_that_it_is_read_again(objective: Objective) -> None:
    for row in ([0.0, 1.0, 0.0], [1.0, 0.0, 0.0]):
        row = [*row, *[0.0] * (objective.width - 3)]
        assert objective.label(objective.text(row)) == row
