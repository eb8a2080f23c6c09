"""Contest: which rows are controls, when a race ends, and what it says."""

import time

import pytest

from regkit.base.errors import ConfigError
from regkit.experiments import contest
from regkit.experiments.contest import racing
from regkit.experiments.draft import Draft, read_race
from regkit.experiments.plan import Cell, Plan, made
from regkit.experiments.study.order import Cells
from regkit.experiments.study.results import Result
from regkit.runs.settings import Settings


def plan(*sets: str, seeds: str | None = None, seconds: float = 60.0) -> Plan:
    return contest.made(Draft(), Settings(), sets, seeds, None, None, seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("45min", 2700), ("45m", 2700), ("90s", 90), ("1h30min", 5400), (" 2 h 5 s ", 7205)],
)
def test_a_time_is_read_in_hours_minutes_and_seconds(text: str, seconds: float) -> None:
    assert read_race(text, "--race") == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "0h", "-1h", "1.5h", "1d", "1min30h", "inf"])
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(ConfigError, match="give a time, such as 1h, 45min or 1h30min"):
        read_race(text, "--race")


def test_a_method_races_against_plain_training_and_against_that_without_dropout() -> None:
    rules = contest.rules(plan("smart"))
    assert (rules.rows, rules.controls, rules.max_seeds) == (["smart"], ["plain", "dropout=0"], contest.SEEDS)
    rules = contest.rules(plan("smart", "learning_rate=1e-4", seeds="6"))
    assert (rules.rows, rules.controls, rules.max_seeds) == (["smart"], ["plain", "learning_rate=1e-4"], 6)


def test_what_all_rows_share_is_no_method() -> None:
    shared = Settings(plugins={"rrobin": {}})
    found = contest.made(Draft(), shared, ["smart"], None, None, None, 60.0)
    assert contest.rules(found).controls == ["plain", "dropout=0"]


def test_a_row_without_dropout_is_not_added_twice() -> None:
    found = contest.made(Draft(), Settings(dropout=0.0), ["smart"], None, None, None, 60.0)
    assert contest.rules(found).controls == ["plain"]
    assert contest.rules(plan("smart", "dropout=0")).controls == ["plain", "dropout=0"]


@pytest.mark.parametrize(
    ("sets", "seeds", "said"),
    [
        (["dropout=0"], None, "every row is plain"),
        (["smart"], "0,2", "a race takes seeds as they come"),
        (
            ["smart", "label_noise=sst=0.1"],
            "3",
            "row 'label_noise=sst=0.1' changes the data, and a race is on the same for all",
        ),
        (["smart"], "1", "a race with one seed can tell nothing"),
    ],
)
def test_a_race_that_cannot_be_is_refused(sets: list[str], seeds: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(*sets, seeds=seeds)


def test_the_candidates_are_methods_with_a_strength_and_schedulers_where_there_are_several_tasks() -> None:
    one, several = contest.candidates(1), contest.candidates(3)
    assert {"smart", "rdrop", "sam", "mixout"} <= set(one) <= set(several)
    assert set(several) - set(one) >= {"rrobin", "proportional"}
    assert not {"only", "domain", "freeze", "pcgrad", "tensorboard"} & set(several)


def test_a_table_after_a_race_runs_the_seeds_that_it_asks_for() -> None:
    race, table = plan("smart"), made(Draft(), Settings(), ["smart"], "5", None, None)
    assert Plan.from_values(race.as_values()) == race
    assert (len(race.joined(table, "s").seeds), len(table.joined(race, "s").seeds)) == (5, 20)


def test_no_run_is_begun_that_would_end_too_late() -> None:
    rules = contest.rules(plan("smart"))
    slow = Cells(seconds={"plain": [60.0], "dropout=0": [60.0], "smart": [60.0]})
    assert racing(rules, time.time() + 10)(Cells()) == Cell("plain", 0)
    assert racing(rules, time.time() + 10)(slow) is None
    assert racing(rules, time.time() - 1)(Cells()) is None


def test_a_race_goes_by_the_mean_of_the_scores_that_decide_and_by_what_failed() -> None:
    found = plan("smart", "rdrop")

    def result(row: str, seed: int, score: float) -> Result:
        return Result(row, seed, "finished", {"dev": {"t": {"mae": score}}}, {"t": ("mae", True)}, seconds=1.0)

    bad = [Result("rdrop", seed, "failed", error="no") for seed in range(3)]
    plain = [result(row, seed, 1.0 + 0.01 * seed) for row in ("plain", "dropout=0") for seed in range(8)]
    better = [result("smart", seed, 0.5 + 0.011 * seed) for seed in range(8)]
    said = contest.verdict(found, [*plain, *better, *bad])
    assert (said.kind, said.row) == ("use", "smart")
    assert said.standing is not None
    assert said.standing.mean == pytest.approx(0.5, abs=0.02)  # less is better, so its sign is turned
    assert "rdrop" in said.dropped
