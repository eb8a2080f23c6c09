"""Bounds: where a search looks for an option is said beside it, and can be."""

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import ValidationError

from regkit.base.bounds import NonNegative, Tuned, convert
from regkit.base.described import Option


@pytest.mark.parametrize(
    ("range_", "said"),
    [
        (Tuned(0.003, 0.3, log=True), "0.003 to 0.3, log"),
        (Tuned(1, 5), "1 to 5"),
        (Tuned(8, 64, step=8), "8 to 64, step 8"),
        (Tuned(), "its choices"),
    ],
)
def test_a_range_is_written_as_the_user_reads_it(range_: Tuned, said: str) -> None:
    assert str(range_) == said


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"low": 3, "high": 1}, "not below"),
        ({"low": 1, "high": 1}, "not below"),
        ({"low": 0, "high": 1, "log": True}, "begins above 0"),
        ({"low": 1, "high": 2, "step": 3}, "does not fit"),
        ({"low": 1, "high": 2, "step": 0}, "does not fit"),
        ({"low": 1, "high": 2, "step": 1, "log": True}, "has no step"),
        ({"low": 1}, "both"),
        ({"log": True}, "both"),
    ],
)
def test_a_range_that_cannot_be_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Tuned(**values)


@pytest.mark.parametrize(
    ("hint", "found"),
    [
        (Annotated[NonNegative, Tuned(0, 1)], Tuned(0, 1)),
        (Annotated[int | None, Tuned(1, 3)], Tuned(1, 3)),
        (Annotated[Literal["a", "b"], Tuned()], Tuned()),
        (dict[str, Annotated[NonNegative, Tuned(0, 1)]], Tuned(0, 1)),
        (NonNegative, None),
        (float, None),
    ],
)
def test_the_range_is_read_beside_the_type(hint: Any, found: Tuned | None) -> None:
    assert Option("weight", hint, 1.0, "").tuned == found


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (float, True),
        (int, False),
        (NonNegative | None, True),
        (list[float], [0.5, True]),
        (tuple[int, int], (1, False)),
        (dict[str, float], {"sst": True}),
        (dict[str, list[int]], {"sst": [True]}),
    ],
)
def test_a_truth_value_is_no_number_wherever_it_stands(hint: Any, value: object) -> None:
    with pytest.raises(ValidationError, match="a number is needed, and not true or false"):
        convert(hint, value)


@pytest.mark.parametrize(
    ("hint", "value"), [(bool, True), (bool | float, False), (bool | float, 2.0), (list[bool], [True]), (object, True)]
)
def test_a_truth_value_stays_one_where_it_may_stand(hint: Any, value: object) -> None:
    assert repr(convert(hint, value)) == repr(value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (NonNegative | None, None),
        (Literal["cls", "max"] | None, None),
        (list[float] | None, None),
        (str | None, "none"),
    ],
)
def test_none_is_a_word_for_what_is_left_out_where_text_is_no_value(hint: Any, value: object) -> None:
    assert convert(hint, "none") == value


def test_none_is_refused_as_it_was_written_where_nothing_may_be_left_out() -> None:
    with pytest.raises(ValidationError, match="input_value='none'"):
        convert(NonNegative, "none")


class Norm(Enum):
    ONE = 1
    HALF = 0.5


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (Literal[1, 2], "1", 1),
        (Literal[0.1, 0.2], "0.20", 0.2),
        (Literal[1, 2, "all"] | None, "2", 2),
        (Literal[1, "2"], "2", "2"),
        (Annotated[Literal[1, 2], Tuned()], "2", 2),
        (list[Literal[1, 2]], ["1", "2"], [1, 2]),
        (Norm, "0.5", Norm.HALF),
    ],
)
def test_a_choice_that_is_a_number_is_read_from_text(hint: Any, text: object, value: object) -> None:
    assert repr(convert(hint, text)) == repr(value)


@pytest.mark.parametrize("text", ["3", "1.5", "x", "true"])
def test_a_number_that_is_no_choice_is_refused_as_it_was_written(text: str) -> None:
    with pytest.raises(ValidationError, match=f"Input should be 1 or 2 .*input_value='{text}'"):
        convert(Literal[1, 2], text)
