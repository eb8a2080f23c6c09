"""Images: matplotlib draws what the page draws, whatever the names and numbers are."""

import math
from pathlib import Path

import pytest

from regkit.page.charts.figures import Bars, Curve, Curves, Dot, Dots, Forest, Interval, Matrix
from regkit.page.document import Document, Panel, Section

images = pytest.importorskip("regkit.page.charts.images", exc_type=ImportError)
pytest.importorskip("matplotlib")

NAME = "$x^{ <b> _\u202e \U0001f468 " + "y" * 300


@pytest.mark.slow
def test_every_kind_of_chart_is_drawn_with_names_that_are_no_mathematics(tmp_path: Path) -> None:
    charts = [
        Curves(NAME, [Curve(NAME, [(0.0, 1.0), (1.0, 2.0)], band=[(0.0, 0.5, 1.5)], members=[[(0.0, 1.0)]]), Curve("_", [(0.0, 1.0)], style=1)]),
        Curves("nothing", []),
        Dots(NAME, [Dot(1.0, 1.0, NAME)], NAME, NAME, square=True, bounds=(0.0, 1.0)),
        Dots("wide", [Dot(1e-5, 1.0), Dot(1e-2, 2.0, hollow=True)], "x", "y", logarithmic=True, line=[(1e-5, 1.0), (1e-2, 2.0)]),
        Matrix(NAME, [NAME], [NAME], [[1.0]], NAME, NAME, by_row=True),
        Matrix("cosines", ["a", "b"], ["a", "b"], [[None, -1.0], [math.nan, None]]),
        Forest(NAME, [Interval(NAME, 1.0, math.nan, math.nan, told=False), Interval("b", 1.0, 0.5, 2.0, told=True)]),
        Bars(NAME, [(NAME, 0.5)]),
    ]  # fmt: skip
    assert images.save(Document("t", [], [Section("a/../b", [Panel("p", charts)])]), tmp_path / "new") == len(charts)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names[1] == "002-a-b-nothing.png"
    assert len(names) == len(charts)


def test_the_name_of_a_file_has_no_sign_that_a_system_refuses() -> None:
    assert images.file_name("Scores", "a/b: c*") == "scores-a-b-c"
    assert images.file_name("\U0001f468") == "chart"
    assert len(images.file_name("x" * 500)) == 70
