"""Runs: what a page says of them comes from their folders, whole or not."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from regkit.hooks import stopwatch
from regkit.page.charts.figures import Curves, Matrix
from regkit.page.document import Cell, Grid, Note, Panel, Section
from regkit.page.reading import logs
from regkit.page.reading.logs import CORE, read_log, turns
from regkit.page.sections import runs
from regkit.page.sections.curves import BUDGET, curves
from tests.page.folders import groups_of, write_run


def sections_of(*folders: Path) -> Mapping[str, Section]:
    return {section.title: section for section in runs.sections(groups_of(*folders))}


def grids(section: Section) -> dict[str, Grid]:
    return {block.caption: block for block in section.blocks if isinstance(block, Grid)}


def charts(section: Section) -> dict[str, Curves]:
    found = [block.figures for block in section.blocks if isinstance(block, Panel)]
    return {figure.title: figure for figures in found for figure in figures if isinstance(figure, Curves)}


def words(section: Section) -> list[str]:
    return [line for block in section.blocks if isinstance(block, Note) for line in block.lines]


def texts(rows: Sequence[Sequence[str | Cell]]) -> list[list[str]]:
    return [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in rows]


def test_a_log_is_read_as_series_over_the_updates(tmp_path: Path) -> None:
    log = read_log(write_run(tmp_path / "run", steps=8) / "log.jsonl")
    assert log.losses["mood", "task"] == [(1.0, 2.0), (3.0, 1.75), (5.0, 1.5), (7.0, 1.25)]
    assert log.scores["near", "loss"] == [(0.0, 2.0), (8.0, 1.92)]
    assert log.shares["near", "smart"] == [(2.0, 0.25), (6.0, 0.25)]
    assert log.times["smart"] == [(2.0, 0.75), (6.0, 0.75)]
    assert log.passes["smart"] == [(2.0, 2.0), (6.0, 2.0)]
    assert log.measures["smart", "at the edge", "near"] == [(2.0, 0.5), (6.0, 0.5)]
    assert log.cosines["mood and near"] == [(2.0, -0.25), (6.0, -0.25)]
    assert (log.end, log.broken, log.infinite) == (8.0, 0, 0)
    assert CORE == stopwatch.CORE


def test_the_steps_of_a_second_stage_go_on_where_those_of_the_first_ended() -> None:
    log = logs.Log()
    for stage, step in (("first", 0), ("first", 1), ("second", 0)):
        log.add({"stage": stage, "step": step, "learning_rate": 0.1, "losses": {"mood": {"task": 1.0}}})
    assert [x for x, _ in log.losses["mood", "task"]] == [1.0, 2.0, 3.0]
    assert log.stages == [(0.0, "first"), (2.0, "second")]


def test_what_a_log_has_that_is_no_record_is_counted_and_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=8)
    with (folder / "log.jsonl").open("a", encoding="utf8") as file:
        file.write('{"stage": "finetune", "step": 8, "learning_rate": 1, "losses": {"mood": {"task": NaN}}}\n')
        file.write('[1]\n{"stage": "finetune"}\n{"step": "x", "stage": 1}\n\xff\n')
        file.write(
            f'{{"stage": "finetune", "step": 1{"0" * 400}, "scores": {{"dev": {{}}}}}}\n{{"stage": "finetune", "st'
        )
    log = read_log(folder / "log.jsonl")
    assert (len(log.losses["mood", "task"]), log.broken, log.infinite) == (4, 6, 1)
    said = words(sections_of(folder)["Warnings"])
    assert "6 lines of the log cannot be read" in said
    assert "1 number in the log not finite, and not drawn" in said
    assert read_log(tmp_path / "nowhere").end == 0


def test_each_task_has_its_share_of_the_updates_over_time(tmp_path: Path) -> None:
    log = read_log(write_run(tmp_path / "run", steps=96, tasks=("a", "b", "c")) / "log.jsonl")
    assert {round(share, 6) for points in turns(log).values() for _, share in points} == {round(1 / 3, 6)}


def test_runs_that_differ_in_their_seed_are_a_group_with_mean_band_and_members(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / f"{row}-{seed}", seed=seed, **more)
        for row, more in (("plain", {}), ("low", {"warmup": 0.0}))
        for seed in (0, 1, 2)
    ]
    groups = groups_of(*folders)
    assert [(group.name, len(group.runs)) for group in groups] == [("plain", 3), ("low", 3)]
    chart = charts(sections_of(*folders)["Losses"])["mood task"]
    assert [curve.name for curve in chart.curves] == ["plain", "low"]
    curve = chart.curves[0]
    assert len(curve.members) == 3
    for (x, low, high), (at, middle) in zip(curve.band, curve.points, strict=True):
        assert x == at
        assert middle == pytest.approx((low + high) / 2)
        assert high - low == pytest.approx(0.2)  # a seed adds a tenth
    assert "band" in next(block.caption for block in sections_of(*folders)["Losses"].blocks if isinstance(block, Panel))


def test_groups_of_a_study_are_named_by_its_rows(tmp_path: Path) -> None:
    one = write_run(tmp_path / "smart-a1b2-0", group="s/smart:weight=2/3", seed=0)
    two = write_run(tmp_path / "smart-a1b2-1", group="s/smart:weight=2/3", seed=1)
    other = write_run(tmp_path / "plain-0", group="s/plain", dropout=0.0)
    assert [(each.name, len(each.runs)) for each in groups_of(one, two, other)] == [
        ("smart:weight=2/3", 2),
        ("plain", 1),
    ]


def test_groups_are_named_by_what_sets_them_apart_where_their_folders_do_not_say_it(tmp_path: Path) -> None:
    one = write_run(tmp_path / "x", plugins={"smart": {"weight": 2.0}})
    other = write_run(tmp_path / "y", plugins={"rdrop": {}, "ema": {}}, warmup=0.2)
    assert [group.name for group in groups_of(one, other)] == [
        "smart, warmup=0.1, smart:weight=2",
        "rdrop + ema, warmup=0.2",
    ]
    settings = grids(sections_of(one, other)["Settings"])["Settings that differ"]
    assert settings.head == ["settings", "warmup", "plugins", "smart:weight"]
    assert texts(settings.rows)[1][1:] == ["0.2", "rdrop, ema", "none"]


def test_settings_that_are_not_the_default_come_first(tmp_path: Path) -> None:
    found = grids(sections_of(write_run(tmp_path / "run", epochs=7))["Settings"])
    assert ["epochs", "7", "3"] in texts(found["Settings that are not the default"].rows)
    default = found["Settings as they are by default"]
    assert default.folded
    assert ["batch_size", "32"] in texts(default.rows)
    assert not {"epochs"} & {row[0] for row in texts(default.rows)}


def test_of_one_run_the_scores_before_at_the_best_and_at_the_end_are_listed(tmp_path: Path) -> None:
    table = grids(sections_of(write_run(tmp_path / "run"))["Scores"])["Scores on dev"]
    assert texts(table.rows)[0] == ["mood accuracy", "0.200", "0.500", "0.600", "+0.400"]


def test_the_score_of_a_sample_before_training_is_shown_as_one_and_not_compared(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    first, *lines = (run / "log.jsonl").read_text(encoding="utf8").splitlines()
    scores = json.loads(first)["scores"]
    sample = {"stage": "finetune", "step": 0, "sample": scores, "examples": {"dev": {"mood": 9, "near": 8}}}
    (run / "log.jsonl").write_text("\n".join([json.dumps(sample), *lines]) + "\n", encoding="utf8")
    table = grids(sections_of(run)["Scores"])["Scores on dev"]
    assert texts(table.rows)[0] == ["mood accuracy", "0.200 (of 9 examples)", "0.500", "0.600", ""]
    assert ("mood", "accuracy") in read_log(run / "log.jsonl").scores
    assert all(at for at, _ in read_log(run / "log.jsonl").scores["mood", "accuracy"])


def test_what_plugins_did_is_shown_over_time_and_as_averages(tmp_path: Path) -> None:
    section = sections_of(write_run(tmp_path / "run"))["What the plugins did"]
    assert texts(grids(section)["Terms of the loss, means over measured steps"].rows)[1] == ["smart", "0.1", "25 %"]
    assert texts(grids(section)["Plugins, means over measured steps"].rows) == [["smart", "75 %", "2"]]
    found = charts(section)
    assert [name for name in found if "share" in name] == ["near: share of the gradient", "share of the time"]
    assert [curve.name for curve in found["near: share of the gradient"].curves] == ["smart"]
    assert "smart: at the edge" in found


def test_conflicts_of_gradients_are_listed_and_drawn(tmp_path: Path) -> None:
    section = sections_of(write_run(tmp_path / "run"))["Tasks"]
    (rows,) = (grid.rows for caption, grid in grids(section).items() if "conflict" in caption)
    assert texts(rows)[0][:3] == ["mood and near", "−0.250", "100 %"]
    matrices = [
        figure
        for block in section.blocks
        if isinstance(block, Panel)
        for figure in block.figures
        if isinstance(figure, Matrix)
    ]
    assert matrices[0].values == [[None, -0.25], [-0.25, None]]


def test_a_run_that_is_not_finished_is_shown_and_said(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "a-0", finished=False), write_run(tmp_path / "a-1", seed=1)
    assert "Not finished: a-0" in words(sections_of(one, other)["Warnings"])
    assert words(sections_of(one)["Warnings"])[0] == "Not finished: stopped, after step 40"
    rows = texts(grids(sections_of(one, other)["Runs"])["Each run"].rows)
    assert [row[1] for row in rows] == ["stopped, after step 40", "finished"]


def test_skipped_steps_are_listed_with_their_cause(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=4)
    suspect = {"what": "loss", "tasks": ["mood"], "rows": list(range(9)), "term": "smart", "plugins": ["smart"]}
    with (folder / "log.jsonl").open("a", encoding="utf8") as file:
        file.write(json.dumps({"stage": "finetune", "step": 4, "skipped": [suspect]}) + "\n")
    (rows,) = (grid.rows for grid in grids(sections_of(folder)["Warnings"]).values())
    assert texts(rows) == [["5", "the loss of 'smart' in task 'mood' is not finite; rows 0, 1, 2, 3, 4 and 4 more"]]
    assert charts(sections_of(folder)["Losses"])["mood task"].marks == [(5.0, "step 5 was skipped")]


def test_files_that_are_missing_or_hold_something_else_leave_a_page_that_says_so(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", finished=False)
    for name in ("effects.json", "scores.json", "environment.json"):
        (folder / name).write_text(
            '{"dev": {"mood": {"accuracy": null, "f1": 1' + "0" * 400 + '}}, "terms": 3, "examples": 1}',
            encoding="utf8",
        )
    (folder / "config.toml").write_text("epochs =", encoding="utf8")
    (folder / "log.jsonl").unlink()
    found = sections_of(folder)
    assert words(found["Scores"]) == ["No evaluation has been logged yet."]
    assert words(found["Losses"]) == ["No update has been logged yet."]
    assert words(found["Warnings"])[1:] == ["config.toml cannot be read, so the settings are not shown"]


def test_a_long_log_is_a_few_hundred_points(tmp_path: Path) -> None:
    groups = groups_of(write_run(tmp_path / "run", steps=8_000, tasks=("mood",)))
    (chart,) = curves(groups, lambda log: {"mood": log.losses["mood", "task"]}, lambda key: (key, "task"))
    (curve,) = chart.curves
    assert len(curve.points) <= 60
    assert 100 < len(curve.members[0]) <= 240
    assert curve.members[0][0] == (1.0, 2.0)


def test_many_lines_share_the_points_of_a_panel(tmp_path: Path) -> None:
    groups = groups_of(write_run(tmp_path / "run", steps=1200))
    many = curves(
        groups, lambda log: dict.fromkeys(range(400), log.losses["mood", "task"]), lambda key: (f"{key}", "loss")
    )
    assert sum(len(member) for chart in many for curve in chart.curves for member in curve.members) <= BUDGET


def test_more_groups_than_colours_leave_the_best_coloured_and_the_others_grey(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / f"row{n}-{n}", steps=4, seed=n, warmup=n / 100) for n in range(11)]
    chart = charts(sections_of(*folders)["Losses"])["mood task"]
    assert [curve.name for curve in chart.curves if curve.muted] == [
        "row0",
        "row1",
        "row2",
    ]  # the scores grow with the seed
    assert len({curve.style for curve in chart.curves if not curve.muted}) == 8


def test_runs_that_differ_in_their_trackers_alone_are_one_group(tmp_path: Path) -> None:
    """A plugin that is not installed here may act, and sets a group apart."""
    folders = [
        write_run(tmp_path / name, seed=seed, plugins={"smart": {}, **more})
        for seed, (name, more) in enumerate(
            {
                "none": {},
                "one": {"tensorboard": {"folder": "a"}},
                "two": {"wandb": {}, "mlflow": {}},
                "gone": {"x": {}},
            }.items()
        )
    ]
    groups = groups_of(*folders)
    assert [[run.name for run in group.runs] for group in groups] == [["none", "one", "two"], ["gone"]]
    assert [group.name for group in groups] == ["smart", "smart + x"]
