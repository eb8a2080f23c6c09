"""Charts: what is more is higher, what is later is further right, and no number or name breaks one."""

import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regkit.page.charts.figures import Bars, Curve, Curves, Dot, Dots, Figure, Forest, Interval, Matrix
from regkit.page.charts.svg import HEIGHT, NAMED, draw
from tests.helpers import PATIENT

NASTY = (
    "<script>alert(1)</script> ]]> & \" ' \u202eevil\u202c \x00\x1b[31m \ud800 \U0001f468\u200d\U0001f469 "
    + "x" * 10_000
)
NUMBERS = st.floats() | st.sampled_from([1e308, -1e308, 5e-324, 0.0])


def parsed(figure: Figure) -> ET.Element:
    """The chart as a tree: it is whole XML, whatever is in it."""
    return ET.fromstring(draw(figure, "c1"))


def of_class(figure: Figure, *classes: str) -> list[ET.Element]:
    """The elements that have all these classes, in the order in which they are drawn."""
    return [each for each in parsed(figure).iter() if set(classes) <= set(each.get("class", "").split())]


def places(element: ET.Element) -> list[tuple[float, float]]:
    """The points of a path."""
    numbers = [float(each) for each in re.findall(r"-?[\d.]+", element.get("d", ""))]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def centres(figure: Figure, *classes: str) -> list[tuple[float, float]]:
    return [(float(each.get("cx", "nan")), float(each.get("cy", "nan"))) for each in of_class(figure, *classes)]


def test_the_highest_value_is_at_the_top_and_the_last_step_at_the_right_end() -> None:
    chart = Curves("loss", [Curve("loss", [(0.0, 2.0), (5.0, 4.0), (10.0, 3.0)])])
    (line,) = of_class(chart, "line")
    (x0, y0), (x1, y1), (x2, y2) = places(line)
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y1 < y2 < y0
    ticks = {
        each.text: float(each.get("y", "nan")) for each in of_class(chart, "tick") if each.get("text-anchor") == "end"
    }
    assert ticks["4"] - 3.5 == pytest.approx(y1)
    assert ticks["2"] - 3.5 == pytest.approx(y0)


def test_a_band_runs_along_the_highest_values_and_back_along_the_lowest() -> None:
    chart = Curves("loss", [Curve("loss", [(0.0, 2.0), (1.0, 2.0)], band=[(0.0, 1.0, 3.0), (1.0, 2.0, 2.0)])])
    (band,) = of_class(chart, "band")
    (left, top), (right, middle), (again, bottom) = places(band)
    assert left == again < right
    assert top < middle < bottom
    waist = Curves("loss", [Curve("loss", [], band=[(0.0, 1.0, 3.0), (1.0, 2.0, 2.0), (2.0, 1.0, 3.0)])])
    assert len(places(of_class(waist, "band")[0])) == 6  # it passes its waist on both ways


def test_charts_beside_one_another_have_the_same_last_step() -> None:
    half = Curves("loss", [Curve("loss", [(0.0, 1.0), (50.0, 2.0)])], end=100.0)
    (line,) = of_class(half, "line")
    assert places(line)[-1][0] == pytest.approx((46 + 348) / 2)


def test_a_dot_of_a_larger_number_is_further_right_and_higher_and_equal_ones_lie_on_the_diagonal() -> None:
    chart = Dots("scores", [Dot(1, 1), Dot(4, 4), Dot(4, 2)], "truth", "prediction", square=True, bounds=(0, 5))
    (x0, y0), (x1, y1), (x2, y2) = centres(chart, "dot")
    assert x0 < x1 == x2
    assert y1 < y2 < y0
    (diagonal,) = of_class(chart, "diagonal")
    left, low, right, high = (float(diagonal.get(name, "nan")) for name in ("x1", "y1", "x2", "y2"))
    for x, y in ((x0, y0), (x1, y1)):
        assert y == pytest.approx(low + (x - left) / (right - left) * (high - low), abs=0.2)


def test_names_of_dots_at_the_same_place_do_not_lie_on_one_another() -> None:
    chart = Dots("cost", [Dot(1, 1, f"row {number}") for number in range(6)], "time", "score")
    heights = sorted(float(each.get("y", "nan")) for each in of_class(chart, "label"))
    assert all(after - before >= 11 - 0.01 for before, after in itertools.pairwise(heights))


def test_an_interval_that_leaves_0_out_lies_beside_it_and_is_drawn_as_told() -> None:
    chart = Forest(
        "dev",
        [
            Interval("a", 2, 1, 3, told=True),
            Interval("b", 0.5, -1, 2, told=False),
            Interval("c", -2, -3, -1, told=True),
        ],
    )
    (null,) = of_class(chart, "null")
    zero = float(null.get("x1", "nan"))
    first, second, third = (
        (float(each.get("x1", "nan")), float(each.get("x2", "nan"))) for each in of_class(chart, "interval")
    )
    assert zero < first[0] < first[1]
    assert second[0] < zero < second[1]
    assert third[0] < third[1] < zero
    assert [("told" in each.get("class", "").split()) for each in of_class(chart, "interval")] == [True, False, True]
    assert first[0] < centres(chart, "estimate")[0][0] < first[1]


def test_a_cell_of_a_confusion_is_the_darker_the_larger_its_share_of_the_row() -> None:
    chart = Matrix("confusion", ["a", "b"], ["a", "b"], [[9, 1], [20, 20]], "truth", "prediction", by_row=True)
    shades = [float(each.get("fill-opacity", "nan")) for each in of_class(chart, "heat")]
    assert shades[0] > shades[2] == shades[3] > shades[1] > 0
    assert [each.text for each in of_class(chart, "cell")] == ["9", "1", "20", "20"]


def test_what_is_below_0_has_another_colour_in_a_matrix_of_cosines() -> None:
    chart = Matrix("cosines", ["a", "b"], ["a", "b"], [[None, -0.5], [0.5, None]])
    assert len(of_class(chart, "cold")) == len(of_class(chart, "heat")) == 1


def test_a_bar_of_twice_the_value_is_twice_as_long() -> None:
    chart = Bars("importance", [("a", 0.6), ("b", 0.3), ("c", 0.0)], percent=True)
    widths = [float(each.get("width", "nan")) for each in of_class(chart, "bar")]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert 0 < widths[2] < 1
    assert "60 %" in [each.text for each in of_class(chart, "tick")]


def test_a_line_of_one_point_is_a_dot_and_a_constant_one_lies_inside() -> None:
    assert len(of_class(Curves("x", [Curve("x", [(3.0, 7.0)])]), "dot")) == 1
    (line,) = of_class(Curves("x", [Curve("x", [(0.0, 7.0), (9.0, 7.0)])]), "line")
    assert all(0 < y < HEIGHT for _, y in places(line))


@pytest.mark.parametrize(
    "figure",
    [
        Curves(NASTY, [Curve(NASTY, [(0.0, 1.0)])], x=NASTY, marks=[(0.0, NASTY)]),
        Curves("nothing", []),
        Dots(NASTY, [Dot(0, 0, NASTY), Dot(math.nan, math.inf, "x")], NASTY, NASTY, names=[NASTY]),
        Dots("nothing", [], "x", "y", square=True),
        Matrix(NASTY, [NASTY], [NASTY], [[math.nan]], NASTY, NASTY, by_row=True),
        Matrix("nothing", [], [], []),
        Forest(NASTY, [Interval(NASTY, math.nan, math.nan, math.nan, told=False)], NASTY),
        Forest("nothing", []),
        Bars(NASTY, [(NASTY, math.nan), ("all", math.inf)], percent=True),
        Bars("nothing", []),
    ],
    ids=lambda figure: f"{type(figure).__name__} of {'nothing' if figure.title == 'nothing' else 'nasty names'}",
)
def test_no_name_and_no_missing_number_breaks_a_chart(figure: Figure) -> None:
    drawn = draw(figure, "c1")
    assert ET.fromstring(drawn).find("title") is not None
    assert "nan" not in re.sub(r">[^<]*<", "><", drawn)
    assert "<script" not in drawn
    assert not re.search("[\u202a-\u202e\x00-\x08\x1b\ud800-\udfff]", drawn)
    assert "\U0001f468\u200d\U0001f469" in drawn or figure.title == "nothing"


@settings(PATIENT, max_examples=20)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5))
def test_whatever_the_numbers_are_a_chart_is_whole(points: list[tuple[float, float]]) -> None:
    dots = [Dot(x, y, "a") for x, y in points]
    for figure in (
        Dots("dots", dots, "x", "y"),
        Forest("forest", [Interval("a", x, x, y, told=True) for x, y in points]),
        Matrix("matrix", ["a"], [str(n) for n in range(len(points))], [[x for x, _ in points]], by_row=True),
        Curves("curves", [Curve("a", [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)])]),
    ):
        assert "nan" not in draw(figure, "c1").replace("\N{INFINITY}", "")
        parsed(figure)


def test_a_hundred_classes_are_drawn_without_numbers_and_without_what_is_0() -> None:
    names = [str(number) for number in range(100)]
    values = [[5.0 if row == column else 0.0 for column in range(100)] for row in range(100)]
    drawn = draw(Matrix("confusion", names, names, values, by_row=True), "c1")
    assert len(names) > NAMED
    assert drawn.count("<rect") == 101
    assert len(drawn) < 30_000


def test_a_chart_is_an_image_with_a_title_and_a_description() -> None:
    tree = parsed(Curves("loss of mood", [Curve("task", [(0.0, 2.0), (10.0, 1.0)])]))
    assert tree.get("role") == "img"
    named = {each.get("id"): each.text for each in tree if each.tag in ("title", "desc")}
    assert [named[key] for key in (tree.get("aria-labelledby") or "").split()] == [
        "loss of mood",
        "task: from 2 at step 0 to 1 at 10.",
    ]
