"""Formats: a table reads at any width, and names and sentences of the user break no format."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from regkit.experiments.study.results import Result
from regkit.experiments.tables.formats import (
    FORMATS,
    as_csv,
    as_json,
    as_latex,
    as_markdown,
    as_renderable,
    save,
)
from regkit.experiments.tables.formats.cells import number, probability, remarks, seconds
from regkit.experiments.tables.formats.latex import escape
from regkit.experiments.tables.summarize import summarize
from regkit.experiments.tables.table import Table
from tests.experiments.studies import ablation, result

LONG = "smart:epsilon=0.1,weight=2+rrobin+learning_rate=1e-4"
HOSTILE = "100% a_b & {c} $d$ #e ~f ^g \\h <i> |j| `k` *l* [m] --n \x1b[31m\no"
SCORES = {
    "plain": [0.80, 0.70, 0.75, 0.72, 0.78],
    "smart": [0.82, 0.73, 0.76, 0.74, 0.81],
    LONG: [0.80, 0.71, 0.73, 0.73, 0.79],
}


def table_of(results: list[Result]) -> Table:
    return summarize("an ablation", {each.row: {} for each in results}, results, "plain")


def whole() -> Table:
    """A table with costs, effects, a failure and two tasks."""
    results = [
        result(
            row,
            seed,
            score,
            1.5 - score,
            seconds=10.0 * len(row),
            memory=2.0**30,
            effects=["'smart' gives 5 % of the gradient"],
        )
        for row, scores in SCORES.items()
        for seed, score in enumerate(scores)
    ]
    return table_of([*results, Result("smart", 5, "failed", error="the loss is not finite.")])


def shown(table: Table, width: int, *, color: bool = False) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=color, color_system="standard" if color else None)
    console.print(as_renderable(table))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_fits_the_terminal_and_shows_every_number_whole(width: int) -> None:
    text = shown(whole(), width)
    assert max(map(cell_len, text.splitlines())) <= width
    line = next(line for line in text.splitlines() if line.startswith("smart "))
    assert re.split(r"  +", line.strip()) == ["smart", ".772 ± .041", "+.022 [.012, .032]", ".062", ".125", "5", "1.0x"]
    assert "…" not in text
    titles = ["dev sst accuracy", "dev sts loss, less is better", "dev mean", "cost of a run"]
    assert [line.strip() for line in text.splitlines() if line.strip() in titles] == titles
    assert "1.07 GB" in text


def test_what_plugins_did_and_what_failed_is_said_once_a_line_each() -> None:
    found = remarks(whole())
    assert [line for line in found if "of the gradient" in line] == [
        "all rows, seed 0: 'smart' gives 5 % of the gradient"
    ]
    assert "smart, seed 5, failed: the loss is not finite." in found


def test_what_holds_for_several_rows_or_seeds_is_said_once() -> None:
    rows = {name: [0.5, 0.5] for name in ("plain", "a", "b", "c")}
    failed = [Result(row, seed, "failed", error="it falls.") for row in ("a", "b") for seed in (2, 3)]
    table = table_of([*ablation(rows), *failed, Result("c", 2, "failed", error="it falls.")])
    assert remarks(table)[-3:] == [
        "'a', 'b' and 'c' have exactly the scores of 'plain': what they change did nothing, or nothing that these scores "
        "show.",
        "a and b, seeds 2 and 3, failed: it falls.",
        "c, seed 2, failed: it falls.",
    ]


def test_what_cannot_be_told_from_nothing_is_grey_and_nothing_is_starred() -> None:
    text = shown(table_of(ablation(SCORES)), 120, color=True)
    smart, other = (next(line for line in text.splitlines() if line.startswith(name)) for name in ("smart ", "smart:"))
    assert "\x1b[90m" not in smart
    assert other.count("\x1b[90m") == 3
    assert "*" not in text


def test_one_row_that_is_compared_needs_no_holm_and_none_no_difference() -> None:
    one = shown(table_of(ablation({name: SCORES[name] for name in ("plain", "smart")})), 80)
    assert "Holm " not in one
    assert " p " in one
    alone = shown(table_of(ablation({"plain": SCORES["plain"]})), 80)
    assert "difference" not in alone
    empty = table_of([Result("plain", 0, "waiting")])
    assert not shown(empty, 80).strip()
    assert remarks(empty) == ["1 run is not finished; the table is of those that are."]


@pytest.mark.parametrize("render", [as_markdown, as_latex, as_csv, as_json, lambda table: shown(table, 80)])
def test_names_and_sentences_of_the_user_command_nothing(render: object) -> None:
    results = ablation({"plain": SCORES["plain"], HOSTILE: SCORES["smart"]})
    table = replace(table_of([*results, Result(HOSTILE, 7, "failed", error=HOSTILE)]), name=HOSTILE)
    text = render(table)  # type: ignore[operator]
    if render is not as_csv:  # which quotes a name as it is
        assert "\x1b" not in text
    if render is as_latex:
        assert_is_latex(text)
    if render is as_markdown:
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {7}


def assert_is_latex(text: str) -> None:
    """Every brace and environment is closed, every special character is escaped, every row has its cells."""
    body = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
    plain = re.sub(r"\\[\\{}$&#_%]", "", body)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert not re.search(r"[#_%~^<>|`\"]", plain)
    begun, ended = (sorted(re.findall(rf"\\{word}\{{(\w+)\}}", body)) for word in ("begin", "end"))
    assert begun == ended
    for head, rows in re.findall(r"\\begin\{tabular\}\{(l+)\}\n(.*?)\\end", body, re.DOTALL):
        for row in rows.splitlines():
            if row.endswith(r"\\") and "multicolumn" not in row:
                assert len(re.findall(r"(?<!\\)&", row)) == len(head) - 1


def test_latex_is_whole_and_grey_where_nothing_is_told() -> None:
    text = as_latex(whole())
    assert_is_latex(text)
    assert r"smart & $.772 \pm .041$ & $+.022\ [.012, .032]$ & $.062$ & $.125$ & $5$ & $1.0\times$ \\" in text
    assert text.count(r"\textcolor{gray}") > 0
    assert escape("1e--4 [x]") == "1e{-}{-}4 {[}x{]}"


def test_markdown_has_a_table_for_each_score_and_bold_for_what_is_told() -> None:
    text = as_markdown(whole())
    assert r"| smart | .772 ± .041 | **+.022 \[.012, .032\]** | .062 | .125 | 5 | 1.0x |" in text.splitlines()
    assert text.count("| row | score |") == 3


def test_csv_has_a_line_for_each_row_and_column_and_empty_fields_for_what_is_not_there() -> None:
    table = whole()
    rows = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert len(rows) == len(table.rows) * len(table.columns)
    plain, smart = rows[0], rows[3]
    assert (plain["row"], plain["difference"], plain["memory"]) == ("plain", "", str(2.0**30))
    assert (smart["split"], smart["task"], smart["told"], smart["failed"]) == ("dev", "sst", "true", "1")
    found = table.rows[1].entries[table.columns[0]].difference
    assert found
    assert float(smart["low"]) == found.low


def test_json_has_the_score_of_every_seed() -> None:
    found = json.loads(as_json(whole()))
    assert found["rows"][1]["entries"][0]["values"] == {str(seed): score for seed, score in enumerate(SCORES["smart"])}


def test_a_table_is_saved_in_every_format(tmp_path: Path) -> None:
    table = whole()
    save(table, tmp_path)
    found = {path.name: path.read_text(encoding="utf8") for path in tmp_path.iterdir()}
    assert sorted(found) == ["table.csv", "table.json", "table.md", "table.tex"]
    assert set(found.values()) == {render(table) for render in FORMATS.values()}


def test_numbers_have_the_digits_that_their_column_needs() -> None:
    small = {"plain": [0.91231, 0.91233, 0.91236], "up": [0.91234, 0.91235, 0.91238]}
    assert ".91233 ± .00003" in shown(table_of(ablation(small)), 80)
    alike = {"plain": [0.9, 0.8, 0.7], "up": [0.90031, 0.80039, 0.70033]}
    assert ".800 ± .100  +.0003 [.0002, .0004]" in shown(table_of(ablation(alike)), 80)
    large = {"plain": [1234.5, 1250.1, 1241.0], "up": [1230.5, 1251.1, 1241.7]}
    assert "1241.9 ± 7.8" in shown(table_of(ablation(large)), 80)
    assert [number(value, 3) for value in (0.5, -0.0001, 1.0, -1.25, float("inf"))] == [
        ".500",
        ".000",
        "1.000",
        "-1.250",
        "inf",
    ]
    assert [probability(value) for value in (1, 0.0625, 0.00001, float("nan"))] == ["1.000", ".062", "<.001", "-"]
    assert [seconds(value) for value in (0.84, 12.3, 190, 7200)] == ["0.8 s", "12 s", "3 min", "2.0 h"]
