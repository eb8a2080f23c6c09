"""`regkit runs` lists runs by the path that names them, and compares two."""

import json
import re
import shutil
from pathlib import Path

import pytest

from regkit.base.errors import RunError
from regkit.runs.folders import find_folder
from tests.cli.test_bad_input import is_one_sentence
from tests.helpers import regkit, write_encoder, write_tasks

ARGUMENTS = ["--encoder", "encoder", "--data", "data", "--tasks", "mood", "--steps", 4, "--batch-size", 8]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs named alike, `one/run` and `two/run`."""
    folder = tmp_path_factory.mktemp("runs")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    for name, more in {
        "one/run": ["-p", "smart:weight=2"],
        "two/run": ["-p", "smart", "-p", "ema", "--lr", 0.01],
    }.items():
        ran = regkit("train", *ARGUMENTS, *more, "--output", name, cwd=folder)
        assert ran.status == 0, ran.err
    return folder


def columns(line: str) -> list[str]:
    return re.split(r"  +", line)


def test_runs_named_alike_are_listed_by_their_paths_oldest_first(place: Path) -> None:
    head, one, two = (columns(line) for line in regkit("runs", "two", "one", cwd=place).out.splitlines())
    assert head == ["run", "state", "plugins", "dev scores", "time", "disk"]
    scores = json.loads((place / "one" / "run" / "scores.json").read_text("utf8"))["dev"]["mood"]
    assert one[:4] == ["one/run", "finished", "smart", f"mood accuracy {scores['accuracy']:.4g}"]
    assert two[:3] == ["two/run", "finished", "smart, ema"]
    assert one[4] == "0:00" or one[4].startswith("0:")
    assert one[5].endswith("kB")


def test_without_a_path_the_runs_are_those_in_the_folder_runs(place: Path, tmp_path: Path) -> None:
    assert "there is no run yet" in regkit("runs", cwd=tmp_path).out
    assert json.loads(regkit("runs", "--json", cwd=tmp_path).out) == []
    shutil.copytree(place / "one", tmp_path / "runs", symlinks=True)
    (tmp_path / "runs" / "latest").symlink_to("run")
    assert [columns(line)[0] for line in regkit("runs", cwd=tmp_path).out.splitlines()] == ["run", "runs/run"]
    (tmp_path / "runs" / "run").rename(tmp_path / "runs" / "best")
    said = "regkit: runs/latest leads to runs/run, which is gone; name a run. Available: runs/best."
    assert regkit("eval", cwd=tmp_path).err.splitlines()[-1] == said


def test_two_runs_are_compared_by_what_differs(place: Path) -> None:
    ran = regkit("runs", "one/run", "two/run", cwd=place)
    rows = {row[0]: row[1:] for row in (columns(line) for line in ran.out.splitlines())}
    assert rows["setting or score"] == ["one/run", "two/run"]
    assert rows["learning_rate"] == ["5e-05", "0.01"]
    assert rows["plugins"] == ["smart", "smart, ema"]
    assert rows["smart:weight"][0] == "2"
    assert {"mood accuracy", "mood loss", "state", "time", "disk"} <= rows.keys()
    assert not {"data", "tasks", "steps", "seed"} & rows.keys()
    found = json.loads(regkit("runs", "one/run", "two/run", "--json", cwd=place).out)
    assert found["settings"]["learning_rate"] == [5e-05, 0.01]
    assert [run["run"] for run in found["runs"]] == ["one/run", "two/run"]


def test_a_run_that_was_stopped_or_is_damaged_is_listed_too(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "x"
    shutil.copytree(place / "one" / "run", run, symlinks=True)
    (run / "finished.json").unlink()
    (run / "log.jsonl").write_text("no json", encoding="utf8")
    (run / "scores.json").write_text("[]", encoding="utf8")
    (run / "config.toml").write_text("epochs =", encoding="utf8")
    assert regkit("runs", cwd=tmp_path).out.splitlines()[1].split()[:5] == ["runs/x", "stopped", "-", "-", "-"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one/run", "one/../one/run"], "are the same run; name two"),
        (["oen"], "there is no run or folder oen. Did you mean 'one'?"),
        (["one", "nowhere/run"], "there is no run or folder nowhere/run. Available: none."),
    ],
)
def test_what_is_no_run_is_one_sentence(place: Path, words: list[str], said: str) -> None:
    ran = regkit("runs", *words, cwd=place)
    is_one_sentence(ran)
    assert said in ran.err


def test_a_run_that_is_not_here_is_looked_for_where_runs_usually_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "config.toml").touch()
    monkeypatch.chdir(tmp_path)
    mine = Path("runs", "mine")
    for asked in ("mine", "elsewhere/mine"):
        with pytest.raises(RunError, match=re.escape(f"no run {asked}. Did you mean '{mine}'? Available: {mine}.")):
            find_folder(Path(asked))
