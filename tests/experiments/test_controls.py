"""Controls: the plain rows that a study adds, and what it takes to beat them."""

import json

import numpy as np
import pytest

from regkit.experiments import controls
from regkit.experiments.draft import Draft
from regkit.experiments.plan import Plan, made
from regkit.experiments.statistics.paired import holm, sign_flip
from regkit.experiments.tables.formats import as_csv, as_json, as_latex, as_markdown
from regkit.experiments.tables.summarize import summarize
from regkit.experiments.tables.table import Column, Rival, Table
from regkit.page.document import Cell, Grid
from regkit.page.reading.studies import table_from
from regkit.page.sections.ablation import sections
from regkit.runs.settings import Settings
from tests.experiments.studies import ablation, result

SST = Column("dev", "sst", "accuracy")
CHANGES = {
    "plain": {},
    "dropout=0": {"dropout": 0.0},
    "lr": {"learning_rate": 1e-4},
    "smart": {"plugins": {"smart": {}}},
    "sam": {"plugins": {"sam": {}}},
}
SCORES = {
    "plain": [0.70, 0.71, 0.69, 0.72, 0.70, 0.71],
    "dropout=0": [0.74, 0.75, 0.72, 0.76, 0.75, 0.74],
    "lr": [0.72, 0.70, 0.73, 0.71, 0.74, 0.70],
    "smart": [0.76, 0.76, 0.75, 0.78, 0.76, 0.77],
    "sam": [0.73, 0.72, 0.71, 0.75, 0.73, 0.73],
}


def plan(*sets: str, **shared: object) -> Plan:
    settings = Settings.checked(shared, "the test")
    found = made(Draft(controls=True), settings, sets, None, None, None)
    return controls.added(found, controls.usual(settings))


def table_of(scores: dict[str, list[float]]) -> Table:
    return summarize("study", {name: CHANGES[name] for name in scores}, ablation(scores), "plain")


def rival(table: Table, row: str) -> Rival:
    found = next(each for each in table.rows if each.name == row).entries[SST].rival
    assert found
    return found


def test_the_controls_change_dropout_learning_rate_and_weight_decay_and_stand_before_the_methods() -> None:
    names = ["plain", "dropout=0", "learning_rate=2.5e-05", "learning_rate=0.0001", "weight_decay=0.1", "smart"]
    found = plan("smart")
    assert list(found.rows) == names
    assert controls.controls_of(found) == names[:-1]
    assert Plan.from_values(found.as_values()) == found


def test_a_control_that_is_there_already_is_not_added() -> None:
    found = plan("smart", "learning_rate=1e-4", dropout=0.0, weight_decay=0.0)
    assert list(found.rows) == ["plain", "learning_rate=1e-4", "learning_rate=2.5e-05", "weight_decay=0.01", "smart"]


@pytest.mark.parametrize(
    ("settings", "cost", "names"),
    [
        (Settings(epochs=3), 2.6, ["epochs=8"]),
        (Settings(epochs=3), 1.0, []),
        (Settings(epochs=3), 1.04, []),  # the epochs that there are miss its time by little
        (Settings(epochs=1), 1.3, ["steps=130"]),  # whole epochs miss it by more
        (Settings(epochs=1), 1.7, ["steps=170"]),
        (Settings(steps=100), 2.6, ["steps=260"]),
    ],
)
def test_a_control_trains_as_long_as_the_dearest_method(settings: Settings, cost: float, names: list[str]) -> None:
    assert [row.name for row in controls.as_long(settings, cost, updates=100)] == names


def test_a_control_is_scored_more_often_and_so_can_stop_earlier() -> None:
    assert [row.name for row in controls.stopped_early(100)] == ["eval_steps=25"]
    assert [row.name for row in controls.stopped_early(2)] == ["eval_steps=1"]
    assert controls.stopped_early(1) == []


def test_a_method_is_compared_with_the_control_that_it_is_least_better_than() -> None:
    found = rival(table_of(SCORES), "smart")
    over = {name: np.subtract(SCORES["smart"], SCORES[name]) for name in ("plain", "dropout=0", "lr")}
    assert found.control == "dropout=0"
    assert found.difference.mean == pytest.approx(over["dropout=0"].mean())
    largest = max(sign_flip(each) for each in over.values())
    assert found.difference.p == largest
    assert found.difference.adjusted == holm([largest, 1.0])[0]
    assert found.difference.told


def test_a_row_with_other_data_is_no_control_and_competes_with_none() -> None:
    rows = {
        **CHANGES,
        "noise": {"label_noise": {"sst": 0.4}},
        "noisy": {"label_noise": {"sst": 0.4}, "plugins": {"sam": {}}},
    }
    scores = {**SCORES, "noise": [0.99] * 6, "noisy": [0.5, 0.6, 0.55, 0.5, 0.6, 0.5]}
    table = summarize("study", rows, ablation(scores), "plain")
    assert rival(table, "smart") == rival(table_of(SCORES), "smart")
    assert all(row.entries[SST].rival is None for row in table.rows if row.name in ("noise", "noisy"))
    found = plan("smart", "label_noise=sst=0.4", "smart+subsample=sst=100")
    assert controls.methods_of(found) == ["smart"]
    assert "label_noise=sst=0.4" not in controls.controls_of(found)


def test_a_method_that_beats_plain_training_and_not_every_control_has_beaten_nothing() -> None:
    table = table_of(SCORES)
    sam = next(row for row in table.rows if row.name == "sam").entries[SST]
    assert sam.difference
    assert sam.difference.told
    assert (rival(table, "sam").difference.p, rival(table, "sam").difference.told) == (1.0, False)


def test_where_less_is_better_the_hardest_control_is_the_lowest() -> None:
    rows = {"plain": 1.0, "dropout=0": 0.8, "smart": 0.9}
    results = [result(row, seed, 0.5, loss + 0.01 * seed) for row, loss in rows.items() for seed in range(6)]
    table = summarize("study", {name: CHANGES[name] for name in rows}, results, "plain")
    loss = next(column for column in table.columns if column.task == "sts")
    found = table.rows[2].entries[loss].rival
    assert found
    assert (found.control, found.difference.told) == ("dropout=0", False)


def test_without_a_second_control_there_is_no_such_comparison() -> None:
    table = table_of({name: SCORES[name] for name in ("plain", "smart", "sam")})
    assert all(entry.rival is None for row in table.rows for entry in row.entries.values())


def test_every_form_of_the_table_tells_who_beats_the_controls() -> None:
    table = table_of(SCORES)
    assert "smart over dropout=0" in as_markdown(table).replace("\\", "")
    assert "smart over dropout=0" in as_latex(table)
    assert ",dropout=0," in next(line for line in as_csv(table).splitlines() if line.startswith("smart"))
    assert '"control": "dropout=0"' in as_json(table)
    assert any("beats every control" in note for note in table.notes)
    assert table.notes[0].endswith(" is better than every control (dev sst accuracy).")


def test_the_page_shows_each_method_against_its_hardest_control() -> None:
    table = table_of(SCORES)
    kept = table_from(json.loads(as_json(table)))  # the page is made of the file
    assert [row.entries for row in kept.rows] == [row.entries for row in table.rows]
    found = {section.title: section for section in sections(kept)}["Methods against every control"]
    grid = next(block for block in found.blocks if isinstance(block, Grid))
    shown = {row[1].text: row[2].text for row in grid.rows if isinstance(row[1], Cell) and isinstance(row[2], Cell)}
    assert set(shown) == {"smart over dropout=0", "sam over dropout=0"}
    assert float(shown["smart over dropout=0"].replace("+", "")) == pytest.approx(0.02, abs=1e-3)
    assert all("every control" not in section.title for section in sections(table_of({"plain": [0.7], "smart": [0.8]})))
