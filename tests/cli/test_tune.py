"""`regkit tune`: the plan first; the same command goes on; what a search cannot be is one sentence, before torch."""

import json
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from regkit.cli import tune
from regkit.runs.settings import Settings
from tests import forked
from tests.helpers import everything_in, regkit

pytest.importorskip("optuna")

TINY = [
    "--encoder",
    "encoder",
    "--data",
    "data",
    "--tasks",
    "mood",
    "--steps",
    2,
    "--batch-size",
    4,
    "--plugin",
    "smart",
]
SPACE = ["--space", "smart.epsilon", "--space", "learning_rate=1e-4..1e-2 log"]


def test_a_search_whose_workers_came_to_nothing_is_a_failure_and_the_same_command_begins_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    for name in ("study.lock", "study.db"):  # as a command leaves them that was killed, or had no room
        (folder / name).touch()
    monkeypatch.setattr(tune, "let_work", lambda *given: None)
    command = ["tune", *TINY, *SPACE, "--seeds", 1, "--fresh-seeds", 0, "--trials", 1, "--output", folder]
    for jobs, status in ((2, 1), (0, 0)):
        ran = regkit(*command, "--jobs", jobs, cwd=place)
        assert (ran.status, "the search is not over yet" in ran.out) == (status, True), ran.err
        assert ran.out.endswith(f"to take up what is not finished: regkit work {folder}\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "study.db").touch()
    assert "exists already" in regkit(*command[:-1], tmp_path / "other", cwd=place).err, "nothing says whose that is"


def test_trials_that_failed_are_tried_again_by_the_command_that_is_said(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    space = ["--space", "learning_rate=1e29..1e30 log", "--sampler", "random", "--seeds", 1, "--fresh-seeds", 0]
    for command in (["tune", *TINY, *space, "--trials", 2, "--output", folder], ["tune", folder / "study.toml"]):
        ran = regkit(*command, cwd=place)
        assert "trial 1 failed: " in ran.out, ran.err
        assert ran.out.endswith(f"to try again what failed: regkit tune {folder / 'study.toml'}\n")
    worked = regkit("work", folder, cwd=place)
    assert worked.status == 1
    assert (
        "nothing is left to do in study 'study' but what failed\nto try again what failed: regkit tune " in worked.out
    )


def test_fewer_trials_than_a_search_has_are_said_to_stay(place: Path, tmp_path: Path) -> None:
    command = ["tune", *TINY, *SPACE, "--output", tmp_path / "study", "--seeds", 1, "--fresh-seeds"]
    assert regkit(*command, 2, "--trials", 3, "--jobs", 0, cwd=place).status == 0
    asked = {
        (2, 3): set(),
        (1, 4): {"2 fresh seeds, though 1"},
        (1, 2): {"3 trials, though 2", "2 fresh seeds, though 1"},
    }
    for (fresh, trials), kept in asked.items():
        ran = regkit(*command, fresh, "--trials", trials, "--dry-run", cwd=place)
        found = re.findall(
            "^the study keeps its (.*) were asked for; for fewer, name another --output$", ran.out, re.MULTILINE
        )
        assert set(found) == kept


@pytest.mark.slow
def test_a_search_ends_with_a_config_to_train_with_and_the_same_command_goes_on(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    command = ["tune", *TINY, *SPACE, "--seeds", 1, "--fresh-seeds", 1, "--sampler", "random", "--output", folder]
    first = regkit(*command, "--trials", 2, cwd=place)
    assert first.status == 0, first.err
    assert "search smart.epsilon: 0.003 to 0.3, log (default 0.01)" in first.out
    assert first.out.index("trials: 2 by random") < first.out.index("default, seed 0: ")
    assert "with one seed, a search follows what is luck" in first.out
    assert "to take up what" not in first.out
    record = json.loads((folder / "search.json").read_text())
    assert [each["state"] for each in record["trials"]] == ["complete", "complete"]
    assert record["default"]["value"] == record["trials"][0]["value"]
    more = regkit(*command, "--trials", 3, cwd=place)
    assert more.status == 0, more.err
    assert "default, seed 0: " not in more.out
    assert len(json.loads((folder / "search.json").read_text())["trials"]) == 3
    itself = regkit("tune", folder / "study.toml", cwd=place)
    assert itself.status == 0, itself.err
    assert "seed 0: " not in itself.out
    assert not (place / "runs").exists()
    best = Settings.read(folder / "best.toml")
    assert best.model_copy(update={"learning_rate": 5e-5, "plugins": {}}) == Settings.read(
        folder / "runs" / "default-0" / "config.toml"
    ).model_copy(
        update={
            "learning_rate": 5e-5,
            "plugins": {},
            "labels": {},
            "pooling": None,
            "group": None,
            "micro_batch_tokens": None,
        }
    )
    trained = regkit("train", folder / "best.toml", "--dry-run", cwd=place)
    assert trained.status == 0, trained.err
    changed = regkit(*command, "--space", "dropout", "--trials", 3, cwd=place)
    assert changed.status == 2
    assert "name another --output to begin a new search" in changed.err


def test_a_dry_run_prints_the_plan_and_writes_nothing(place: Path, tmp_path: Path) -> None:
    before = everything_in(place)
    ran = regkit("tune", *TINY, "--dry-run", cwd=place)
    assert ran.status == 0, ran.err
    for line in (
        "search learning_rate: 1e-05 to 0.0005, log (default 5e-05)",
        "search smart.weight: 0.1 to 10, log (default 1)",
        "trials: 30 by gp, the first of them the default, each with 3 seeds",
        "then the winner and the default with 10 fresh seeds: 110 runs in all, or fewer",
    ):
        assert line in ran.out
    assert "plugin smart: answers extra_losses, measure" in ran.out
    assert everything_in(place) == before


@pytest.mark.slow
def test_a_worker_works_on_a_search(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    command = ["tune", *TINY, *SPACE, "--seeds", 1, "--fresh-seeds", 0, "--trials", 1, "--output", folder]
    assert regkit(*command, "--jobs", 0, cwd=place).status == 0
    worked = regkit("work", folder, cwd=place)
    assert worked.status == 0, worked.err
    assert "default, seed 0: " in worked.out
    assert "nothing beat the default" in regkit(*command, cwd=place).out
    (place / "encoder").rename(place / "away")
    try:
        again, more = (regkit(*command, *words, cwd=place) for words in ([], ["--trials", "2"]))
    finally:
        (place / "away").rename(place / "encoder")
    assert (again.status, "nothing beat the default" in again.out) == (0, True), again.err
    assert (more.status, "there is no encoder folder" in more.err) == (2, True)


def test_data_without_a_dev_split_is_refused_before_anything_is_trained(place: Path, tmp_path: Path) -> None:
    text = (place / "data" / "tasks.toml").read_text(encoding="utf8")
    shutil.copytree(place / "data", tmp_path / "data")
    (tmp_path / "data" / "tasks.toml").write_text(re.sub(r"(?m)^(dev|test) = .*\n", "", text), encoding="utf8")
    ran = regkit("tune", *TINY, "--data", tmp_path / "data", "--output", tmp_path / "study", cwd=place)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "has a dev split with labels, so there is nothing to compare" in ran.err
    assert not (tmp_path / "study").exists()


def test_epochs_of_a_file_have_no_effect_beside_steps_of_the_command_line(place: Path, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('[search]\nepochs = "1..3"\n')
    ran = regkit("tune", tmp_path / "s.toml", *TINY[:4], "--space", "steps=2..4", "--dry-run", cwd=place)
    assert (ran.status, ran.err) == (2, "regkit: --space: epochs has no effect beside steps; leave one of them out.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--space", "smart.wieght"], "--space: there is no option 'smart.wieght'. Did you mean 'smart.weight'?"),
        (["--space", "lr=1e-5..1e-3"], "--space: there is no option 'lr'. Did you mean 'learning_rate'?"),
        (["--space", "smart.weight=-1..1"], "--space: smart.weight: the low end of -1 to 1 is -1.0; input should be"),
        (["--space", "learning_rate=1..0.1"], "its low end, 1, is not below its high end, 0.1"),
        (["--space", "warmup=0..0.2 log"], "a log scale begins above 0"),
        (["--space", "rdrop.weight"], "add --plugin rdrop"),
        (["--space", "dropout=0,0.1", "--space", "dropout=0,0.2"], "--space: dropout is given twice."),
        (["--trials", "0"], "--trials is '0'; input should be greater than or equal to 1"),
        (["--seeds", "x"], "--seeds is 'x'"),
        (["--fresh-seeds", "-1"], "--fresh-seeds is '-1'"),
        (["--plugin", "smrt"], "there is no plugin 'smrt'. Did you mean 'smart'?"),
        (["nowhere.toml"], "nowhere.toml does not exist"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(words: list[str], said: str, place: Path) -> None:
    before = everything_in(place)
    ran = regkit("tune", *TINY, *words, cwd=place)
    assert ran.status == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert everything_in(place) == before


def test_an_ablation_is_no_search_and_a_search_no_ablation(place: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    words = ["--encoder", "encoder", "--data", "data", "--tasks", "mood", "--steps", 1, "--batch-size", 4]
    words += ["--plugin", "smart", "--seeds", 1, "--jobs", 0, "--output"]
    assert regkit("ablate", *words, one, cwd=place).status == 0
    assert regkit("tune", *words, other, "--trials", 1, cwd=place).status == 0
    ran = regkit("tune", *words, one, cwd=place)
    assert (ran.status, ran.err) == (2, "regkit: study 'one' is no search; name another --output.\n")
    ran = regkit("ablate", *words, other, cwd=place)
    assert ran.status == 2
    assert "is no ablation" in ran.err


@pytest.mark.slow
def test_a_search_that_was_killed_at_random_ends_like_one_that_was_not(place: Path, tmp_path: Path) -> None:
    words = [*TINY, *SPACE, "--steps", 4, "--trials", 3, "--seeds", 2, "--fresh-seeds", 1, "--sampler", "tpe"]
    command = ["tune", *words, "--output"]

    def record(folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((folder / "search.json").read_text())
        return found | {"trials": [{**each, "seconds": 0} for each in found["trials"]]}

    whole, parts, killed = tmp_path / "whole", tmp_path / "parts", 0
    assert forked.command([*command, whole], place).wait() == 0
    draw = random.Random(0)
    for begun in (1, 4):  # runs, of six for the trials and two to compare: well before it can end
        process = forked.command([*command, parts], place)
        while len(list(parts.glob("runs/*"))) < begun and process.poll() is None:
            time.sleep(0.001)
        time.sleep(0.3 * draw.random())
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    assert forked.command([*command, parts], place).wait() == 0
    assert killed
    assert record(parts) == record(whole)
