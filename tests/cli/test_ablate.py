"""`regkit ablate` and `regkit work`: the same command goes on where it was, whatever ended it."""

import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from regkit.cli import ablate, app
from regkit.experiments.asked import read_plan
from regkit.experiments.place import find_place, threads
from regkit.experiments.study.results import Result, read_results
from regkit.experiments.study.study import Study
from tests import forked
from tests.benchmarks import gains
from tests.cli.test_bad_input import is_one_sentence
from tests.forked import Forked
from tests.helpers import everything_in, regkit, with_stranger

RIGHT = ["--encoder", "encoder", "--data", "data", "--batch-size", "8", "--lr", "0.01", "--steps", "5"]
PAIR = [*RIGHT, "--tasks", "mood,same", "-p", "plain", "-p", "smart", "--seeds", "2"]

BROKEN = '''"""Broken: fails in its second step."""
from dataclasses import dataclass
from regkit import hookimpl

@dataclass
class Plugin:
    @hookimpl
    def after_step(self, step):
        if step == 1:
            raise ValueError("two is too much")
'''


def results(study: Path) -> list[Result]:
    place = find_place(study, None)
    found = Study.open(place.name, place.folder, place.address)
    return read_results(found, read_plan(found))


@pytest.fixture(scope="module")
def studied(place: Path) -> Path:
    """The folder of a study of two rows and two seeds."""
    ran = regkit("ablate", *PAIR, "--output", "study", "--subsample", "mood=0.5", cwd=place)
    assert (ran.status, ran.err) == (0, ""), ran.out
    assert not (place / "runs" / "latest").exists()  # what `regkit eval` means by itself is a run of `regkit train`
    return place / "study"


@pytest.mark.parametrize(("every", "more"), [pytest.param("1000", "2", marks=pytest.mark.slow), ("4", "1")])
def test_controls_are_rows_and_one_of_them_is_scored_four_times_as_often(place: Path, every: str, more: str) -> None:
    words = [
        "--encoder",
        "encoder",
        "--data",
        "data",
        "--steps",
        "8",
        "--eval-steps",
        every,
        "--lr",
        "0.01",
        "--dry-run",
    ]
    ran = regkit("ablate", *words, "--controls", "-p", "smart", "--seeds", "2", "--output", "controlled", cwd=place)
    assert ran.status == 0, ran.err
    rows = re.findall(r"row (\S+) \((?:baseline|control)\)", ran.out)
    rates = ["learning_rate=0.005", "learning_rate=0.02"]
    assert rows[:-1] == ["plain", "dropout=0", *rates, "weight_decay=0.1", f"eval_steps={more}"]
    assert 16 < int(rows[-1].removeprefix("steps=")) < 24  # as long as smart takes


def test_a_race_in_a_file_is_one(place: Path, tmp_path: Path) -> None:
    (tmp_path / "race.toml").write_text('race = "90s"\nseeds = 4\n[rows.smart.plugins.smart]\n', encoding="utf8")
    words = ["ablate", tmp_path / "race.toml", *RIGHT, "--tasks", "mood", "--output", "raced", "--dry-run"]
    for more, said in (((), "a race of 90 s"), (("--race", "3min"), "a race of 3")):
        ran = regkit(*words, *more, cwd=place)
        assert ran.status == 0, ran.err
        assert said in ran.out
        assert "against plain and dropout=0, at most 4 seeds" in ran.out


def test_each_run_scores_as_one_of_its_own_command_does(place: Path, studied: Path) -> None:
    """What a worker's runs share changes nothing: here is the last of four."""
    words = [*RIGHT, "--tasks", "mood,same", "-p", "smart", "--seed", "1", "--subsample", "mood=0.5"]
    assert regkit("train", *words, "--output", "alone", cwd=place).status == 0
    last = results(studied)[-1]
    assert (last.row, last.seed, last.state) == ("smart", 1, "finished")
    assert last.scores["dev"] == json.loads((place / "alone" / "scores.json").read_text())["dev"]
    assert list(last.scores) == ["dev"]  # mood's test split has no labels
    assert last.mains == {"mood": ("accuracy", False), "same": ("accuracy", False)}
    assert last.folder == studied / "runs" / "smart-1"
    assert last.operations > 1.5 > 1.0 == results(studied)[0].operations
    assert last.seconds > 0
    assert last.memory > 1e7
    assert last.effects[0].startswith("effect of smart: ")


def test_a_study_can_be_compared_by_another_metric_than_the_one_that_decided(studied: Path) -> None:
    by_loss, by_accuracy = (gains.read(studied, metric) for metric in ("loss", "accuracy"))
    assert by_accuracy == gains.read(studied) == json.loads((studied / "table.json").read_text(encoding="utf8"))
    found = {row["name"]: gains.chosen(row, "dev mood loss") for row in by_loss["rows"]}
    runs = {(each.row, each.seed): each.scores["dev"]["mood"]["loss"] for each in results(studied)}
    for row, entry in found.items():
        assert entry is not None
        assert entry["lower_is_better"]
        assert entry["values"] == {str(seed): runs[row, seed] for seed in (0, 1)}


def test_a_finished_run_keeps_what_a_table_needs_and_no_weights(studied: Path, place: Path) -> None:
    kept = {path.name for path in (studied / "runs" / "smart-0").iterdir()}
    assert {"config.toml", "log.jsonl", "scores.json", "effects.json", "evidence.safetensors", "finished.json"} <= kept
    assert not kept & {"best", "last"}
    assert not list(studied.rglob("model.safetensors"))
    assert "nothing to free" in regkit("clean", studied, cwd=place).out


def test_the_same_command_again_runs_nothing_and_more_seeds_run_those_alone(studied: Path, place: Path) -> None:
    before = (studied / "runs" / "plain-0" / "log.jsonl").read_bytes()
    words = ["ablate", *PAIR, "--output", "study", "--subsample", "mood=0.5"]
    ran = regkit(*words, cwd=place)
    assert (ran.status, "runs are finished" in ran.out) == (0, False)
    assert "runs: 2 rows x 2 seeds = 4: 4 finished" in ran.out
    assert "p: below 0.05 takes 6 seeds (exact sign-flip test)" in ran.out
    notes = json.loads((studied / "table.json").read_text())["notes"]
    assert notes
    assert set(notes) <= set(ran.out.splitlines())  # each is one line, however wide the terminal
    ran = regkit(*words[:-2], "--subsample", "mood=0.25", "--seeds", "3", cwd=place)
    is_one_sentence(ran)
    assert "study 'study' has row 'plain' with subsample = {'mood': 0.5}, not {'mood': 0.25}" in ran.err
    twin = regkit(*words, "-p", "smart:weight=1.0", cwd=place)
    is_one_sentence(twin)
    assert "rows 'smart' and 'smart:weight=1.0' do not differ; leave one of them out." in twin.err
    ran = regkit(*words, "-p", "dropout=0.3", "--seeds", "1", "--keep-weights", cwd=place)
    assert "finished runs that have kept no weights: 4; --keep-weights is for the runs to come" in ran.out
    assert [line.partition(":")[0] for line in ran.out.splitlines() if "runs are finished" in line] == [
        "dropout=0.3, seed 0",
        "dropout=0.3, seed 1",
    ]
    assert "p: below 0.05 by Holm's method over 2 rows takes 7 seeds (exact sign-flip test)" in ran.out
    assert (studied / "runs" / "plain-0" / "log.jsonl").read_bytes() == before
    assert regkit("eval", studied / "runs" / "dropout=0.3-1", cwd=place).status == 0  # --keep-weights


def test_a_study_whose_folder_was_renamed_is_the_study_that_it_was(studied: Path, place: Path, tmp_path: Path) -> None:
    """Table and runs are found where they are now. In a storage elsewhere it is refused: a new one must not look like it."""
    moved = tmp_path / "moved"
    shutil.copytree(studied, moved)
    before = [(each.row, each.seed, each.value) for each in results(studied)]
    assert [(each.row, each.seed, each.value) for each in results(moved)] == before
    assert {each.folder for each in results(moved)} == set((moved / "runs").iterdir())
    ran = regkit("ablate", moved / "study.toml", "--jobs", "0", cwd=place)
    assert (ran.status, ran.err) == (0, "")
    assert f": {len(before)} finished" in ran.out

    words = ["ablate", *PAIR, "--jobs", "0", "--storage", f"sqlite:///{tmp_path / 'all.db'}"]
    ran = regkit(*words, "--output", tmp_path / "old", cwd=place)
    assert (ran.err, (tmp_path / "all.db").is_file()) == ("", True)
    table = (tmp_path / "old").rename(tmp_path / "new") / "study.toml"
    before_it = table.read_bytes()
    is_one_sentence(refused := regkit("ablate", table, "--jobs", "0", cwd=place))
    assert "has no study 'new'" in refused.err
    assert "which is called after its folder. Available: old." in refused.err
    assert table.read_bytes() == before_it


def test_a_study_that_is_finished_shows_its_table_without_its_encoder_and_its_data(studied: Path, place: Path) -> None:
    words = ["ablate", *PAIR, "--output", "study", "--subsample", "mood=0.5"]
    for name, said in (("encoder", "there is no encoder folder"), ("data", "data does not exist")):
        (place / name).rename(place / "away")
        try:
            ran = regkit(*words, cwd=place)
            more = regkit(*words, "--seeds", "9", "--dry-run", cwd=place)
            new = regkit(*words[:-4], "--output", "new", cwd=place)
        finally:
            (place / "away").rename(place / name)
        assert (ran.status, ran.err) == (0, "")
        assert "dev mood accuracy" in ran.out
        assert (more.status, said in more.err) == (2, True)
        assert (new.status, (place / "new").exists()) == (2, False)


@pytest.mark.parametrize(
    ("words", "within"),
    [
        ([], "0.2"),
        (["--robust"], "0.2"),
        (["--attack-radius", "0.3,0.1"], "0.1 and 0.3"),
    ],
)
def test_a_command_line_changes_the_radii_of_a_file_only_where_it_names_some(
    place: Path, words: list[str], within: str
) -> None:
    (place / "radii.toml").write_text("robust = [0.2]\n[rows.calm]\ndropout = 0.0\n", encoding="utf8")
    ran = regkit("ablate", "radii.toml", *RIGHT, *words, "--dry-run", "--output", "radii", cwd=place)
    assert (ran.status, ran.err) == (0, "")
    assert f"under attacks within {within} RMS" in ran.out


@pytest.mark.slow
def test_a_robust_study_is_scored_on_changed_examples_by_whatever_worker_and_command(place: Path) -> None:
    words = ["ablate", *PAIR, "--label-noise", "mood=0.5", "--seeds", "1", "--output", "robust"]
    ran = regkit(*words, "--robust", "--jobs", "0", cwd=place)
    assert "at most 500 of a task under attacks within 0.03 and 0.1 RMS of the word embeddings" in ran.out
    assert "    0.03,\n" in (place / "robust" / "study.toml").read_text(encoding="utf8")
    assert regkit("work", "robust", cwd=place).status == 0
    ran = regkit(*words, cwd=place)  # as the study has noted
    assert (ran.status, "runs are finished" in ran.out) == (0, False)
    for title in ("dev mood accuracy under typos", "dev mean under attack 0.1", "dev same brier_score, less is better"):
        assert title in ran.out
    assert "Intervals" not in ran.out  # of one seed
    first = results(place / "robust")[0]
    assert list(first.scores) == [
        "dev",
        "dev under typos",
        "dev under synonyms",
        "dev under attack 0.03",
        "dev under attack 0.1",
    ]
    scored = regkit("eval", "robust/runs/plain-0", "--split", "test", cwd=place)
    assert "has kept its answers on dev alone" in scored.err
    assert regkit("report", "robust", "--output", "robust.html", cwd=place).status == 0
    assert "dev mood accuracy under typos" in (place / "robust.html").read_text(encoding="utf8")
    plain = [*words[:-1], "not-robust", "--dry-run"]
    assert "changed dev examples" not in regkit(*plain, cwd=place).out
    assert regkit(*plain[:-1], "--jobs", "0", cwd=place).status == 0
    ran = regkit(*plain, "--robust", cwd=place)
    is_one_sentence(ran)
    assert "study 'not-robust' began without --robust" in ran.err


def test_a_dry_run_prints_the_plan_and_leaves_nothing(place: Path, tmp_path: Path) -> None:
    before = everything_in(place)
    ran = regkit("ablate", *PAIR, "--output", "dry", "--dry-run", cwd=place)
    assert ran.status == 0, ran.err
    assert "row plain (baseline): the shared settings\nrow smart: smart\nseeds: 0, 1\n" in ran.out
    assert "  stage finetune: 5 updates" in ran.out
    assert everything_in(place) == before


def test_a_row_that_cannot_be_is_refused_before_any_run(place: Path) -> None:
    for row, said in {
        "rrobin+proportional": "row 'rrobin+proportional': 'rrobin' and 'proportional' both decide ",
        "smart:weight=-1": "row 'smart:weight=-1': 'smart': weight is '-1'",
        "smrt": "there is no plugin 'smrt'. Did you mean 'smart'?",
        "subsample=mood=500": "row 'subsample=mood=500': subsample: task 'mood' has 24 training examples, not 500.",
        "finetune=false": "row 'finetune=false': a run without fine-tuning has no scores",
    }.items():
        ran = regkit("ablate", *RIGHT, "-p", row, "--output", "refused", cwd=place)
        is_one_sentence(ran)
        assert said in ran.err
        assert not (place / "refused").exists()


@pytest.mark.slow
def test_fewer_seeds_than_a_study_has_are_said_to_stay(place: Path, tmp_path: Path) -> None:
    words = ["ablate", *PAIR, "--output", tmp_path / "study", "--seeds"]
    assert regkit(*words, "4", "--jobs", "0", cwd=place).status == 0
    assert "the study keeps" not in regkit(*words, "5", "--dry-run", cwd=place).out
    ran = regkit(*words, "2", "--dry-run", cwd=place)
    said = "the study keeps its seeds 2, 3, which were not asked for; for fewer, name another --output"
    assert said in ran.out.splitlines()


def test_a_run_that_fails_is_shown_with_its_sentence_and_tried_again_by_the_same_command(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path, broken=BROKEN)
    words = ["ablate", *RIGHT, "--tasks", "same", "-p", "broken", "--seeds", "1", "--output", "failing"]
    for command in ([*words, "--storage", place / "failing.log"], ["ablate", "failing/study.toml"]):
        ran = regkit(*command, cwd=place)
        assert ran.status == 1
        assert "to try again what failed: regkit ablate failing/study.toml\n" in ran.out
        assert "to take up what is not finished" not in ran.out
        assert (
            "broken, seed 0 failed: plugin 'broken' failed in after_step at stage finetune, step 1: ValueError: two is too much"
            in ran.out
        )
    states = [result.state for result in results(place / "failing")]
    assert states == ["finished", "failed"]


@pytest.mark.slow
def test_data_that_changed_since_the_first_runs_is_not_mixed_into_their_table(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    shutil.copytree(place / "encoder", tmp_path / "encoder")
    words = [*RIGHT, "--tasks", "mood", "-p", "plain", "-p", "smart", "--output", "study"]
    assert regkit("ablate", *words, "--seeds", "1", cwd=tmp_path).status == 0
    path = tmp_path / "data" / "mood-train.csv"
    path.write_text("\n".join(path.read_text(encoding="utf8").splitlines()[:-1]) + "\n", encoding="utf8")
    ran = regkit("ablate", *words, "--seeds", "2", cwd=tmp_path)
    assert ran.status == 1
    assert "plain, seed 1 failed: the train split of task 'mood' is no longer what earlier runs" in ran.out
    assert [each.state for each in results(tmp_path / "study")] == ["finished", "finished", "failed", "failed"]


def test_a_row_may_learn_from_another_table_of_the_same_tasks(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "more")
    path = tmp_path / "more" / "mood-train.csv"
    path.write_text("\n".join(path.read_text(encoding="utf8").splitlines()[:-1]) + "\n", encoding="utf8")
    words = [
        *RIGHT,
        "--tasks",
        "mood",
        "-p",
        f"data={tmp_path / 'more'}",
        "--seeds",
        "1",
        "--output",
        tmp_path / "study",
    ]
    ran = regkit("ablate", *words, cwd=place)
    assert ran.status == 0, ran.err
    assert [each.state for each in results(tmp_path / "study")] == ["finished", "finished"]


@pytest.mark.slow
def test_commands_that_begin_a_study_at_the_same_time_lose_no_row(place: Path, tmp_path: Path) -> None:
    words = [*RIGHT, "--tasks", "mood", "--seeds", "1", "--jobs", "0", "--output", tmp_path / "study", "-p"]
    started = [forked.command(["ablate", *words, row], place) for row in ("smart", "dropout=0")]
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert {each.row for each in results(tmp_path / "study")} == {"plain", "smart", "dropout=0"}


def test_a_table_has_the_rows_that_another_command_added_while_it_worked(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*RIGHT, "--tasks", "mood", "--seeds", "1", "--jobs", "0", "--output", tmp_path / "study", "-p"]

    def meanwhile(*given: object) -> None:
        monkeypatch.undo()
        regkit("ablate", *words, "dropout=0", cwd=place)

    monkeypatch.setattr(ablate, "let_work", meanwhile)
    ran = regkit("ablate", *words, "smart", cwd=place)
    table = json.loads((tmp_path / "study" / "table.json").read_text(encoding="utf8"))
    assert "dropout" not in ran.out.partition("runs:")[0]
    assert [row["name"] for row in table["rows"]] == ["plain", "smart", "dropout=0"]


@pytest.mark.slow
def test_what_a_command_that_is_refused_would_have_begun_is_not_there(place: Path, tmp_path: Path) -> None:
    words = [
        "ablate",
        *RIGHT,
        "--tasks",
        "mood",
        "-p",
        "smart",
        "--seeds",
        "1",
        "--jobs",
        "0",
        "--output",
        tmp_path / "s",
    ]
    refused = regkit(*words, "--storage", "/proc/x.log", cwd=place)
    is_one_sentence(refused)
    assert not (tmp_path / "s").exists()
    assert regkit(*words, cwd=place).status == 0
    worked = regkit("work", tmp_path / "s" / "study.toml", cwd=place)
    assert (worked.status, "plain, seed 0: " in worked.out) == (0, True)
    assert "nothing is left to do in study 's'" in regkit("work", tmp_path / "s", cwd=place).out
    assert f"study: {tmp_path / 's'}" in regkit("ablate", tmp_path / "s" / "study.toml", "--dry-run", cwd=place).out


def test_without_a_dev_split_there_is_nothing_to_compare(place: Path, tmp_path: Path) -> None:
    text = (place / "data" / "tasks.toml").read_text(encoding="utf8")
    shutil.copytree(place / "data", tmp_path / "data")
    (tmp_path / "data" / "tasks.toml").write_text(re.sub(r"(?m)^(dev|test) = .*\n", "", text), encoding="utf8")
    words = ["ablate", *RIGHT, "--encoder", place / "encoder", "--tasks", "mood", "-p", "smart", "--output", "s"]
    refused = regkit(*words, cwd=tmp_path)
    is_one_sentence(refused)
    assert "has a dev split with labels, so there is nothing to compare" in refused.err
    assert not (tmp_path / "s").exists()


def test_the_processor_is_divided_among_workers_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert [threads(jobs)["OMP_NUM_THREADS"] for jobs in (2, 3, 99)] == ["4", "2", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads(2) == {}


SAVED = [*RIGHT[:-2], "--steps", "9", "--save-steps", "3", "--tasks", "mood,same"]
LONG = [*SAVED, "-p", "plain", "-p", "smart+ema", "--seeds", "2"]


def until_some_run_is_saved(study: Path, process: Forked) -> None:
    while not list(study.glob("runs/*/checkpoints/*/model.safetensors")) and process.poll() is None:
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> list[Result]:
    assert regkit("ablate", *LONG, "--output", "whole", cwd=place).status == 0
    return results(place / "whole")


def scores(found: Sequence[Result]) -> list[object]:
    return [(each.row, each.seed, each.state, each.scores) for each in found]


@pytest.mark.slow
def test_workers_that_are_killed_at_any_moment_end_in_the_scores_of_an_undisturbed_study(
    place: Path, undisturbed: list[Result]
) -> None:
    moments = random.Random(17)
    plan = ["ablate", *LONG, "--output", "killed", "--storage", "killed.log"]
    for _ in range(2):
        first = forked.command(plan, place)
        second = forked.command(["work", "killed"], place) if (place / "killed" / "study.toml").exists() else None
        until_some_run_is_saved(place / "killed", first)
        time.sleep(moments.random())
        for process in filter(None, (first, second)):
            process.kill()
            process.communicate()
    ran = regkit(*plan, cwd=place)
    assert (ran.status, ran.err) == (0, ""), ran.out
    assert scores(results(place / "killed")) == scores(undisturbed)
    assert not list((place / "killed").rglob("model.safetensors"))


@pytest.mark.slow
def test_several_jobs_end_in_the_scores_of_one_and_ctrl_c_stops_them_all(
    place: Path, undisturbed: list[Result]
) -> None:
    words = ["ablate", *LONG, "--output", "jobs", "--jobs", "2"]
    process = forked.command(words, place)
    until_some_run_is_saved(place / "jobs", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (130, "regkit: stopped by SIGINT; the same command goes on.")
    assert {result.state for result in results(place / "jobs")} <= {"finished", "waiting"}
    finished = forked.command(words, place)
    out, err = finished.communicate(timeout=240)
    assert (finished.returncode, err) == (0, ""), out
    assert scores(results(place / "jobs")) == scores(undisturbed)


def with_little_room(words: Sequence[str]) -> None:
    """Run a command where no file may have more than 20 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.argv = ["regkit", *words]
    app.main()


@pytest.mark.slow
def test_a_full_disk_is_a_sentence_and_the_same_command_goes_on_when_there_is_room(
    place: Path, undisturbed: list[Result]
) -> None:
    words = ["ablate", *LONG[:-1], "1", "--output", "full", "--storage", "full.log"]
    done = Forked(with_little_room, words, cwd=place)
    said = "".join(done.communicate())
    assert done.returncode != 0
    assert "Traceback" not in said
    assert "File too large" in said
    ran = regkit(*words, cwd=place)
    assert (ran.status, ran.err) == (0, ""), ran.out
    assert scores(results(place / "full")) == scores([each for each in undisturbed if each.seed == 0])
