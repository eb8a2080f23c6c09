"""The display: one live line, whatever the console's width, and the most important numbers first."""

import io

import pytest
from rich.console import Console

from regkit.cli.display import Display, Fitting
from regkit.cli.terminal import Terminal

MEANS = {
    "sentiment": {"task": 1.2345, "smart": 0.0123, "bregman": 0.0456},
    "paraphrase": {"task": 0.6789, "smart": 0.0123, "bregman": 0.0456},
    "similarity": {"task": 0.0123, "smart": 0.0123, "bregman": 0.0456},
}
LINES = {
    200: "step 120/3000 | sentiment 1.234 + smart 0.012 + bregman 0.046 | paraphrase 0.679 + smart 0.012 + bregman 0.046"
    " | similarity 0.012 + smart 0.012 + bregman 0.046 | 32 examples/s | 48:00 left",
    100: "step 120/3000 | sentiment 1.234 | paraphrase 0.679 | similarity 0.012 | 48:00 left",
    84: "step 120/3000 | sentiment 1.234 | paraphrase 0.679 | similarity 0.012 | 48:00 left",
    80: "step 120/3000 | sentiment 1.234 | paraphrase 0.679 | 48:00 left",
    60: "step 120/3000 | sentiment 1.234 | 48:00 left",
    30: "step 120/3000 | 48:00 left",
    20: "step 120/3000 | 48:…",
}


def console(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False)


def display(width: int) -> Display:
    shown = Display(console(width))
    shown.means = {task: dict(terms) for task, terms in MEANS.items()}
    shown.steps, shown.total, shown.seconds, shown.examples = 120, 3000, 120.0, 3840
    return shown


@pytest.mark.parametrize("width", LINES)
def test_the_live_line_is_one_line_at_every_width(width: int) -> None:
    shown = display(width)
    (line,) = shown.console.render_lines(Fitting(shown._lines(120)), pad=False)
    assert "".join(part.text for part in line) == LINES[width]


def test_when_a_stage_has_ended_its_line_says_how_much_of_the_time_went_into_scoring() -> None:
    shown = display(100)
    with shown:
        shown.tokens, shown.evaluator.seconds = 1200, 40.0
    assert isinstance(shown.console.file, io.StringIO)
    said = "stage : 1200 tokens in 2:00, 10 tokens/s; scoring took 0:40 more, 25 % of the whole\n"
    assert shown.console.file.getvalue().endswith(said)


def test_where_all_updates_were_skipped_no_speed_is_said() -> None:
    shown = display(100)
    with shown:
        shown.tokens, shown.steps, shown.seconds = 1200, 0, 0.0
    assert isinstance(shown.console.file, io.StringIO)
    assert shown.console.file.getvalue().endswith("stage : no update was made; all were skipped\n")


def test_the_width_is_that_of_the_moment_when_the_line_is_drawn() -> None:
    shown = display(100)
    line = Fitting(shown._lines(120))
    for width in (100, 60, 80):
        shown.console.width = width
        (drawn,) = shown.console.render_lines(line, pad=False)
        assert "".join(part.text for part in drawn) == LINES[width]


def test_a_refresh_replaces_the_line_and_leaves_nothing_behind() -> None:
    shown = display(60)
    with shown:
        shown._show(120)
        shown._show(120)
    assert isinstance(shown.console.file, io.StringIO)
    written = shown.console.file.getvalue()
    assert written.count(LINES[60]) == 3  # the last when it ends
    assert written.count("\n") == 1  # at the end; it is transient, so the cursor goes back up


def test_where_no_width_is_known_lines_are_printed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    printed = io.StringIO()
    Terminal(file=printed).print("heard")
    assert printed.getvalue() == "heard\n"
