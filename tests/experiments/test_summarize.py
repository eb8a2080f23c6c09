"""Summarize: rows are compared seed by seed, and what cannot be told is said."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from regkit.base.errors import ConfigError
from regkit.experiments.contest import scores_of
from regkit.experiments.statistics.paired import holm, interval, sign_flip, smallest_p
from regkit.experiments.study.results import Result
from regkit.experiments.tables.formats import as_csv, as_json, as_latex, as_markdown
from regkit.experiments.tables.notes import too_few
from regkit.experiments.tables.summarize import summarize
from regkit.experiments.tables.table import Column, Difference, Table
from regkit.page.reading.studies import table_from
from tests.experiments.studies import ablation, answered, result

PLAIN = [0.80, 0.70, 0.75, 0.72, 0.78]
BETTER = [0.82, 0.73, 0.76, 0.74, 0.81]
SST = Column("dev", "sst", "accuracy")


def table_of(results: list[Result], baseline: str = "plain") -> Table:
    rows: dict[str, dict[str, object]] = {each.row: {} for each in results}
    return summarize("study", rows, results, baseline)


def difference(table: Table, row: str, column: Column = SST) -> Difference:
    found = next(each for each in table.rows if each.name == row).entries[column].difference
    assert found
    return found


def test_scores_under_changes_calibration_and_the_drop_are_columns_of_their_own(tmp_path: Path) -> None:
    rows = {"plain": (0.4, 0.1), "smart": (0.5, 0.0)}
    results = [
        answered(tmp_path, row, seed, right, changes=["typos", "attack"], drop=drop)
        for row, (right, drop) in rows.items()
        for seed in range(3)
    ]
    table = table_of(results)
    deciding = ["dev sst accuracy", "dev sts loss", "dev mean"]
    changed = [f"{score} under {change}" for change in ("typos", "attack") for score in deciding]
    others = ["dev sst calibration_error", "dev sst brier_score", "dev mean drop"]
    assert list(map(str, table.columns)) == [*deciding, *changed, *others]
    typos, attack = (
        difference(table, "smart", Column(f"dev under {name}", "sst", "accuracy")) for name in ("typos", "attack")
    )
    assert difference(table, "smart") != typos != attack
    loss = difference(table, "smart", Column("dev under typos", "sts", "loss", lower_is_better=True))
    assert difference(table, "smart", Column("dev under typos", "mean")).mean == pytest.approx(
        (typos.mean - loss.mean) / 2
    )
    brier, drop = (Column("dev", *name, lower_is_better=True) for name in (("sst", "brier_score"), ("mean", "drop")))
    assert table.rows[0].entries[brier].values == {
        run.seed: run.scores["dev"]["sst"]["brier_score"] for run in results[:3]
    }
    assert difference(table, "smart", drop).mean == pytest.approx(-0.1)
    assert "Intervals are of 95 %, over seeds and examples: both might have been others." in table.notes
    assert "Those of the drop are over seeds alone: it is read off the logs." in table.notes


def test_every_form_of_the_table_names_what_was_done_to_the_examples(tmp_path: Path) -> None:
    table = table_of([answered(tmp_path, row, 0, 0.5, changes=["typos"], drop=0.1) for row in ("plain", "smart")])
    assert table_from(json.loads(as_json(table))).columns == table.columns
    assert "\nplain,dev under typos,sst,accuracy,false," in as_csv(table)
    assert all("dev sst accuracy under typos" in form(table) for form in (as_markdown, as_latex))
    assert "mean drop, less is better" in as_markdown(table)
    without = table_of([answered(tmp_path, row, 1, 0.5, drop=0.0) for row in ("plain", "smart")])
    assert list(map(str, without.columns)) == ["dev sst accuracy", "dev sts loss", "dev mean"]


def test_rows_are_paired_by_seed_in_whatever_order_their_runs_ended() -> None:
    results = ablation({"plain": PLAIN, "smart": BETTER})
    table = table_of(results[:5] + results[:4:-1])
    found = difference(table, "smart")
    seen = np.subtract(BETTER, PLAIN)
    assert found.mean == pytest.approx(seen.mean())
    assert found.p == sign_flip(seen) == 1 / 16 == found.smallest
    assert (found.low, found.high) == pytest.approx(scipy.stats.ttest_rel(BETTER, PLAIN).confidence_interval())
    assert found.told
    assert not difference(table_of(ablation({"plain": PLAIN, "smart": [*BETTER[1:], BETTER[0]]})), "smart").told
    plain, smart = (row.entries[SST] for row in table.rows)
    assert (plain.difference, plain.mean, smart.values) == (None, np.mean(PLAIN), dict(enumerate(BETTER)))
    assert plain.deviation == pytest.approx(np.std(PLAIN, ddof=1))


def test_p_is_adjusted_for_the_rows_of_a_column() -> None:
    random = np.random.default_rng(0)
    scores = {f"row {n}": list(PLAIN + random.normal(0.01 * n, 0.02, 5)) for n in range(5)}
    table = table_of(ablation({"plain": PLAIN} | scores))
    found = [difference(table, row) for row in scores]
    for name in ("p", "doubt"):
        own = [
            sign_flip(np.subtract(each, PLAIN)) if name == "p" else scipy.stats.ttest_rel(each, PLAIN).pvalue
            for each in scores.values()
        ]
        theirs = multipletests(own, method="holm")[1]
        assert [each.adjusted if name == "p" else each.doubt for each in found] == pytest.approx(theirs)
    assert any("5 rows are compared" in note for note in table.notes)


def test_a_difference_is_not_told_that_only_one_of_many_rows_shows() -> None:
    small = [score + step for score, step in zip(PLAIN, [0.0, 0.03, 0.03, 0.01, 0.04], strict=True)]
    others = {f"row {n}": [score + 0.01 * (-1) ** (n + seed) for seed, score in enumerate(PLAIN)] for n in range(8)}
    alone, among = (table_of(ablation({"plain": PLAIN, "one": small} | more)) for more in ({}, others))
    assert difference(alone, "one").told
    assert not difference(among, "one").told
    assert difference(among, "one").low == difference(alone, "one").low > 0


def test_only_seeds_that_both_rows_have_are_paired() -> None:
    results = ablation({"plain": PLAIN[:4], "smart": BETTER})
    results[6] = Result("smart", 2, "failed", error="the loss is not finite.")
    results += [Result("plain", 4, "running"), Result("r3f", 0, "waiting")]
    table = table_of(results)
    found = difference(table, "smart")
    assert found.pairs == 3
    assert found.mean == pytest.approx(np.subtract(BETTER, PLAIN)[[0, 1, 3]].mean())
    plain, smart, waiting = table.rows
    assert (plain.missing, waiting.missing, waiting.entries, waiting.cost) == ([4], [0], {}, None)
    assert smart.failures == {2: "the loss is not finite."}
    assert len(smart.entries[SST].values) == 4
    assert "2 runs are not finished; the table is of those that are." in table.notes
    assert "'smart' is compared over the 3 of 5 seeds that both have, not by the means shown." in table.notes


def test_several_tasks_have_a_mean_in_which_less_loss_is_more() -> None:
    results = [
        result("plain", 0, 0.7, 1.5),
        result("plain", 1, 0.8, 1.0),
        result("up", 0, 0.8, 1.3),
        result("up", 1, 0.8, 1.1),
    ]
    table = table_of(results)
    assert list(map(str, table.columns)) == ["dev sst accuracy", "dev sts loss", "dev mean"]
    plain, up = ([row.entries[column].mean for column in table.columns] for row in table.rows)
    assert plain == pytest.approx([0.75, 1.25, (0.7 - 1.5 + 0.8 - 1.0) / 4])
    assert [
        each.entries[column].difference.mean
        for each in table.rows[1:]
        for column in table.columns
        if each.entries[column].difference
    ] == pytest.approx(np.subtract(up, plain))  # type: ignore[union-attr]


def test_test_splits_have_columns_where_they_are_labelled() -> None:
    results = ablation({"plain": PLAIN[:2], "smart": BETTER[:2]})
    both = [
        replace(each, scores={"train": each.scores["dev"], **each.scores, "test": each.scores["dev"]})
        for each in results
    ]
    assert list(map(str, table_of(both).columns)) == ["dev sst accuracy", "test sst accuracy"]


def test_the_interval_is_over_examples_too_where_runs_left_their_answers(tmp_path: Path) -> None:
    results = [
        answered(tmp_path, row, seed, right) for row, right in (("plain", 1.0), ("smart", 1.2)) for seed in range(4)
    ]
    whole, alone = table_of(results), table_of([replace(each, folder=None) for each in results])
    for column in whole.columns:
        with_examples, seeds_alone = difference(whole, "smart", column), difference(alone, "smart", column)
        assert with_examples.mean == seeds_alone.mean
        assert (with_examples.low, with_examples.high) != (seeds_alone.low, seeds_alone.high)
    seen = [difference(alone, "smart").low, difference(alone, "smart").high]
    assert seen == pytest.approx(
        list(
            interval(
                np.subtract(
                    *[
                        [each.scores["dev"]["sst"]["accuracy"] for each in results[part]]
                        for part in (slice(4, 8), slice(4))
                    ]
                )
            )
        )
    )
    assert "Intervals are of 95 %, over seeds and examples: both might have been others." in whole.notes
    assert any("over seeds alone" in note for note in alone.notes)
    other = [answered(tmp_path, "r3f", seed, 1.1) for seed in range(4)]
    half = table_of([replace(each, folder=None) if each.row == "smart" else each for each in [*results, *other]])
    assert any(note.startswith("Intervals of 'smart' are over seeds alone") for note in half.notes)


def test_answers_to_other_examples_are_not_paired(tmp_path: Path) -> None:
    results = [answered(tmp_path, "plain", seed, 1.0) for seed in range(3)]
    results += [answered(tmp_path, "smart", seed, 1.2, examples=50) for seed in range(3)]
    assert any("are to other examples" in note for note in table_of(results).notes)


def test_one_seed_says_that_nothing_can_be_told() -> None:
    table = table_of(ablation({"plain": [0.7], "smart": [0.9]}))
    found = difference(table, "smart")
    assert (found.pairs, found.p, found.needed, found.told) == (1, 1.0, None, False)
    assert math.isnan(found.low)
    assert math.isnan(table.rows[0].entries[SST].deviation)
    assert table.notes == [
        "One seed tells nothing of what others would have given, so it has no interval and a p of 1."
    ]


def test_rows_whose_runs_are_the_same_are_named() -> None:
    table = table_of(ablation({"plain": PLAIN, "smart": PLAIN[:4]}))
    found = difference(table, "smart")
    assert (found.mean, found.low, found.high, found.p, found.told) == (0, 0, 0, 1, False)
    assert any(note.startswith("'smart' has exactly the scores of 'plain'") for note in table.notes)


def test_the_verdict_names_the_rows_that_are_told_from_the_baseline() -> None:
    plain, better = [0.50 + 0.01 * seed for seed in range(8)], [0.60 + 0.011 * seed for seed in range(8)]
    found = {"plain": plain, "smart": better, "r3f": plain[::-1]}
    assert table_of(ablation(found)).notes[0] == "'smart' is better than 'plain' (dev sst accuracy)."
    more = found | {"sam": [0.1 + each for each in better], "mixout": [each - 0.2 for each in better]}
    assert table_of(ablation(more)).notes[:2] == [
        "'smart' and 'sam' are better than 'plain' (dev sst accuracy).",
        "'mixout' is worse than 'plain' (dev sst accuracy).",
    ]
    none = {"plain": plain, "r3f": plain[::-1]}
    assert table_of(ablation(none)).notes[0] == "Nothing is told from 'plain' (dev sst accuracy)."


def test_a_difference_that_is_the_same_in_every_seed_has_no_interval() -> None:
    table = table_of(ablation({"plain": [0.5, 0.75, 0.25], "up": [0.625, 0.875, 0.375]}))
    assert math.isnan(difference(table, "up").low)
    assert any("differs by the same in every seed" in note for note in table.notes)


def test_the_table_says_what_p_can_be_and_how_many_seeds_would_tell() -> None:
    table = table_of(ablation({"plain": PLAIN, "r3f": [0.82, 0.69, 0.76, 0.70, 0.80]}))
    assert (
        "p is at least 0.0625 with 5 seeds (exact sign-flip test, two-sided); below 0.05 takes 6 seeds." in table.notes
    )
    several = table_of(ablation({"plain": PLAIN, "r3f": PLAIN[::-1], "rdrop": PLAIN[1:] + PLAIN[:1]}))
    assert any(note.endswith("below 0.05 by Holm's method over 2 rows takes 7 seeds.") for note in several.notes)
    needed = difference(table, "r3f").needed
    assert needed
    assert f"'r3f': about {needed} seeds would tell a difference of this size (dev sst accuracy)." in table.notes


@pytest.mark.parametrize(
    ("seeds", "rows", "said"),
    [
        (5, 1, "below 0.05 takes 6 seeds"),
        (6, 1, ""),
        (6, 2, "below 0.05 by Holm's method over 2 rows takes 7 seeds"),
        (10, 27, "below 0.05 by Holm's method over 27 rows takes 11 seeds"),
        (11, 27, ""),
        (3, 4000, "below 0.05 by Holm's method over 4000 rows takes 18 seeds"),
        (3, 50_000, ""),  # no number of seeds does: 100,000 flips are drawn
        (5, 0, "below 0.05 takes 6 seeds"),
    ],
)
def test_how_many_seeds_a_convincing_p_takes_depends_on_the_rows(seeds: int, rows: int, said: str) -> None:
    assert too_few(seeds, rows) == said
    needed = re.search(r"(\d+) seeds", said)
    if needed:
        pairs = int(needed[1])
        assert holm([smallest_p(pairs)] * max(rows, 1))[0] < 0.05 <= holm([smallest_p(pairs - 1)] * max(rows, 1))[0]


def test_mean_scores_are_those_that_choose_a_checkpoint() -> None:
    results = [result("plain", 0, 0.7, 1.5), result("plain", 1, 0.8), Result("up", 0, "running", mains={})]
    assert scores_of(results) == {"plain": {0: pytest.approx(-0.4), 1: 0.8}}
    loss = replace(result("up", 3, 0.0, 1.5), mains={"sts": ("loss", True)})
    assert scores_of([loss]) == {"up": {3: -1.5}}


def test_costs_are_means_and_the_ratio_is_of_paired_seeds() -> None:
    results = [
        replace(result("plain", seed, 0.7), seconds=seconds, memory=2.0) for seed, seconds in enumerate([10, 20, 30])
    ]
    results += [
        replace(result("smart", seed, 0.7 + seed), seconds=seconds, operations=2.5)
        for seed, seconds in enumerate([20, 20, 90])
    ]
    plain, smart = (row.cost for row in table_of(results).rows)
    assert plain
    assert smart
    assert (plain.seconds, plain.memory, plain.seconds_ratio) == (20, 2, 1)
    assert (smart.operations, smart.seconds_ratio) == (2.5, 2)
    assert math.isnan(smart.memory)


def test_a_score_that_is_not_finite_is_shown_and_not_compared() -> None:
    table = table_of(ablation({"plain": [1.0, 2.0, math.inf], "up": [1.5, 2.0, 3.0]}))
    assert table.rows[0].entries[SST].mean == math.inf
    assert difference(table, "up").pairs == 2
    assert any("'up' is compared over the 2 of 3 seeds" in note for note in table.notes)


def test_an_unfinished_baseline_leaves_nothing_to_compare() -> None:
    table = table_of([*ablation({"smart": BETTER}), Result("plain", 0, "running")])
    assert "No run of the baseline 'plain' is finished, so nothing is compared." in table.notes
    assert all(entry.difference is None for row in table.rows for entry in row.entries.values())
    assert table_of([Result("plain", 0, "waiting")]).columns == []


def test_a_baseline_that_is_no_row_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"no row is called 'plian'.*Did you mean 'plain'"):
        table_of(ablation({"plain": PLAIN}), baseline="plian")


def test_a_table_is_json_without_numbers_that_json_has_not() -> None:
    table = table_of([*ablation({"plain": [0.5], "up": [0.75]}), Result("up", 1, "failed", error="no")])
    found = json.loads(json.dumps(table.as_json(), allow_nan=False))
    entry = found["rows"][1]["entries"][0]
    assert (entry["split"], entry["task"], entry["mean"], entry["values"]) == ("dev", "sst", 0.75, {"0": 0.75})
    assert entry["difference"]["low"] is None
    assert entry["difference"]["told"] is False
    assert found["rows"][1]["failures"] == {"1": "no"}
