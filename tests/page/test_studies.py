"""Studies: a table and a search are read from their files, and what can be told stands out."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from regkit.base.errors import RunError
from regkit.experiments.tables.table import Column
from regkit.page import build
from regkit.page.charts import svg
from regkit.page.charts.figures import Bars, Dots, Forest
from regkit.page.document import Cell, Grid, Note, Panel, Section
from regkit.page.reading import studies
from regkit.page.reading.found import find
from regkit.page.sections import ablation, search
from tests.page.folders import difference, entry, write_run, write_study

ROWS: list[dict[str, Any]] = [
    {"name": "plain", "entries": [entry([0.5, 0.6])]},
    {
        "name": "smart",
        "entries": [entry([0.6, 0.7], difference(0.1, 0.05, 0.15))],
        "settings": {"plugins": {"smart": {"weight": 3.0}}},
        "cost": {"seconds": 120.0, "memory": 3e9, "operations": 3.0, "seconds_ratio": 2.0},
        "effects": ["'smart' gives 6.5 % of the gradient"],
    },
    {
        "name": "rdrop",
        "entries": [entry([0.5, 0.6], difference(0.0004, -0.1, 0.1)) | {"deviation": 0.0006}],
        "missing": [3, 4],
    },
    {"name": "one seed", "entries": [entry([0.7], difference(0.2, None, None))], "failures": {"2": "the disk is full"}},
]


def sections_of(folder: Path) -> dict[str, Section]:
    table = studies.read(folder).table
    assert table
    return {section.title: section for section in ablation.sections(table)}


def cells(section: Section, number: int = 0) -> list[list[Cell]]:
    grid = [block for block in section.blocks if isinstance(block, Grid)][number]
    return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in grid.rows]


def figures(section: Section) -> list[Any]:
    return [figure for block in section.blocks if isinstance(block, Panel) for figure in block.figures]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", ROWS, ["2 seeds tell little."])


def test_a_table_is_read_as_it_was_written(study: Path) -> None:
    table = studies.read(study).table
    assert table
    assert (table.name, table.baseline, list(table.notes)) == ("study", "plain", ["2 seeds tell little."])
    assert list(table.columns) == [Column("dev", "mood", "accuracy")]
    row = table.rows[1]
    cell = row.entries[table.columns[0]]
    assert cell.values == {0: 0.6, 1: 0.7}
    assert cell.difference
    assert (cell.difference.mean, cell.difference.told, cell.difference.needed) == (0.1, True, 8)
    assert row.cost
    assert (row.cost.seconds_ratio, row.cost.memory) == (2.0, 3e9)
    unsure = table.rows[3].entries[table.columns[0]].difference
    assert unsure
    assert unsure.low != unsure.low
    assert not unsure.told


def test_what_can_be_told_from_nothing_stands_out_and_the_rest_stands_back(study: Path) -> None:
    section = sections_of(study)["Scores by row"]
    scores = {row[0].text: row[1] for row in cells(section)}
    assert scores["plain"] == Cell("0.550 ± 0.010")
    assert scores["smart"] == Cell("0.650 ± 0.010", "+0.100 [+0.050, +0.150]", strong=True)
    assert scores["rdrop"] == Cell("0.550 ± 0.001", "+0.0004 [−0.100, +0.100]", weak=True)
    assert scores["one seed"].below == "+0.200"
    assert cells(section)[1][0].below == "smart (weight 3)"
    assert any("2 seeds tell little." in block.lines for block in section.blocks if isinstance(block, Note))


def test_intervals_are_drawn_beside_0_and_tested_in_a_table(study: Path) -> None:
    section = sections_of(study)["Differences from plain"]
    (forest,) = figures(section)
    assert isinstance(forest, Forest)
    assert [(each.name, each.told) for each in forest.intervals] == [
        ("smart", True),
        ("rdrop", False),
        ("one seed", False),
    ]
    assert [cell.text for cell in cells(section)[0]] == [
        "dev mood accuracy",
        "smart",
        "+0.100",
        "[+0.050, +0.150]",
        "0.0625",
        "0.125",
        "5",
        "0.0625",
        "8",
    ]


def test_the_score_is_drawn_against_the_time(study: Path) -> None:
    section = sections_of(study)["Costs"]
    (chart,) = figures(section)
    assert isinstance(chart, Dots)
    assert [(dot.name, dot.x, dot.y, dot.hollow) for dot in chart.dots] == [
        ("plain", 1.0, 0.55, False),
        ("smart", 2.0, pytest.approx(0.65), False),
    ]
    assert [cell.text for cell in cells(section)[1]] == [
        "smart",
        "2:00",
        "2×",
        "3×",
        "3 GB",
        "'smart' gives 6.5 % of the gradient",
    ]


def test_failed_and_missing_runs_are_said(study: Path) -> None:
    section = sections_of(study)["What is missing"]
    assert [cell.text for cell in cells(section)[0]] == ["one seed", "2", "the disk is full"]
    assert section.blocks[0] == Note(["Not finished, by seed: rdrop: 3, 4."], warning=True)


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"rows": [{"name": 1}]}', "nothing", '{"rows": 3, "name": "x", "baseline": "y"}']
)
@pytest.mark.parametrize("name", ["table.json", "search.json"])
def test_a_file_that_a_study_did_not_write_is_said_by_its_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf8")
    (said,) = studies.read(tmp_path).troubles
    assert re.fullmatch(rf"[^\n]*{re.escape(name)}[^\n]*\.", said)


def test_a_page_shows_the_rest_of_a_study_of_which_a_file_cannot_be_read(study: Path, tmp_path: Path) -> None:
    """The other file of the study, the other studies, and the runs."""
    (study / "search.json").write_text("3", encoding="utf8")
    other = tmp_path / "other"
    write_run(other / "runs" / "plain-0")
    (other / "table.json").write_text("{}", encoding="utf8")
    (other / "runs" / "plain-0" / "scores.json").write_text("{", encoding="utf8")
    page = build.document(find([study, other]))
    first, *rest = page.sections
    (note,) = first.blocks
    assert isinstance(note, Note)
    assert (first.title, note.warning, len(note.lines)) == ("What cannot be read", True, 2)
    assert "study: Scores by row" in (titles := [section.title for section in rest])
    assert "other: Losses" in titles
    assert "other: no tables that can be read" in page.lead
    warnings = next(section for section in rest if section.title == "other: Warnings")
    assert "scores.json cannot be read, so the best scores are not shown" in str(warnings.blocks)
    (other / "runs").rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"table\.json"):  # nothing else is there to show
        build.document(find([other]))


TRIALS = [
    {
        "number": 0,
        "state": "COMPLETE",
        "value": 0.5,
        "params": {"learning_rate": 1e-5, "schedule": "linear"},
        "seconds": 61,
    },
    {
        "number": 1,
        "state": "complete",
        "value": 0.4,
        "params": {"learning_rate": 1e-3, "schedule": "cosine"},
        "seconds": 60,
    },
    {"number": 2, "state": "pruned", "value": 0.9, "params": {"learning_rate": 1e-4, "schedule": "linear"}},
    {"number": 3, "state": "fail", "value": None, "params": {}, "error": "out of memory"},
    {"number": 4, "state": "complete", "value": 0.7, "params": {"learning_rate": 1e-4, "schedule": "linear"}},
]
SEARCH = {
    "trials": list(reversed(TRIALS)),
    "importance": {"schedule": 0.1, "learning_rate": 0.9},
    "best": {
        "number": 4,
        "value": 0.7,
        "params": {"learning_rate": 1e-4},
        "fresh": 0.65,
        "difference": {"mean": 0.01, "low": -0.01, "high": 0.03},
    },
    "default": {"number": 0, "value": 0.5, "params": {"learning_rate": 5e-5}},
}


@pytest.fixture
def found(tmp_path: Path) -> Section:
    (tmp_path / "search.json").write_text(json.dumps(SEARCH), encoding="utf8")
    read = studies.read(tmp_path).search
    assert read
    (section,) = search.sections(read)
    return section


def test_the_best_so_far_rises_only_by_whole_trials(found: Section) -> None:
    history = figures(found)[0]
    assert isinstance(history, Dots)
    assert [(dot.x, dot.y, dot.hollow) for dot in history.dots] == [
        (0, 0.5, False),
        (1, 0.4, False),
        (2, 0.9, True),
        (4, 0.7, False),
    ]
    assert list(history.line) == [(0, 0.5), (0, 0.5), (1, 0.5), (1, 0.5), (4, 0.5), (4, 0.7)]


def test_what_matters_most_comes_first_and_choices_have_their_names(found: Section) -> None:
    _, importance, rate, schedule = figures(found)
    assert isinstance(importance, Bars)
    assert importance.bars == [("learning_rate", 0.9), ("schedule", 0.1)]
    assert (rate.title, rate.logarithmic) == ("learning_rate", True)
    assert (schedule.names, [dot.x for dot in schedule.dots]) == (["linear", "cosine"], [0, 1, 0, 0])


def test_the_best_stands_beside_the_default_and_failures_say_why(found: Section) -> None:
    assert [[cell.text for cell in row] for row in cells(found)] == [
        ["learning_rate", "0.0001", "5e-05"],
        ["value", "0.7", "0.5"],
        ["value with fresh seeds", "0.65", ""],
    ]
    said = [line for block in found.blocks if isinstance(block, Note) for line in block.lines]
    assert said == [
        "5 trials: 3 complete, 1 cut short, 1 failed.",
        "With fresh seeds, the best is +0.010 above the default, [−0.010, +0.030].",
    ]
    assert [cell.text for cell in cells(found, 1)[3]] == ["3", "failed: out of memory", "–", "–", "", ""]


def test_what_is_searched_on_a_logarithmic_scale_is_drawn_on_one_however_close_the_trials_are(tmp_path: Path) -> None:
    trials = [
        {"number": place, "state": "complete", "value": 0.5, "params": {"smart.weight": value, "warmup": value}}
        for place, value in enumerate((0.1, 0.2, 0.4))
    ]
    values = {"trials": trials, "logarithmic": ["smart.weight"]}
    (section,) = search.sections(studies.search_from(values))
    drawn = {figure.title: figure for figure in figures(section)[1:]}
    assert {name: figure.logarithmic for name, figure in drawn.items()} == {"smart.weight": True, "warmup": False}
    places = [float(each.get("cx", 0)) for each in ET.fromstring(svg.draw(drawn["smart.weight"], "c")).iter("circle")]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)


def test_a_search_without_a_trial_says_so(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text('{"trials": []}', encoding="utf8")
    read = studies.read(tmp_path).search
    assert read
    (section,) = search.sections(read)
    assert section.blocks == [Note(["No trial has begun yet."])]
