"""A plugin that follows a run is told all of it once, changes no number, and may fail alone."""

import csv
import json
import re
import shutil
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer
from ssl import SSLError
from threading import Thread
from typing import Any
from unittest.mock import patch
from urllib.error import URLError

import pytest

from regkit import Bookmark, PluginError, check_library, check_server, numbers
from regkit.hooks import catalog
from regkit.hooks.following import flatten
from regkit.runs.log import TOGETHER
from tests import forked
from tests.cli.test_bad_input import is_one_sentence
from tests.helpers import Ran, regkit, with_stranger
from tests.runs.test_resume import same_run

PAGE = Path(__file__).parents[2] / "docs" / "trackers.md"
ARGUMENTS = [
    "--encoder",
    "encoder",
    "--data",
    "data",
    "--batch-size",
    "1",
    "--steps",
    "23",
    "--lr",
    "0.01",
    "--tasks",
    "mood",
]

WATCH = """
import json, os, random, sys
from dataclasses import dataclass, field
from pathlib import Path
import torch
from regkit import hookimpl

@dataclass
class Plugin:
    fails: str = ""
    leaves: str = ""
    closes: str = ""
    note: str = ""
    file: Path = field(init=False)

    def tell(self, hook, told):
        random.random(), torch.rand(3)
        if hook == self.fails:
            raise OSError("the server is away")
        if hook == self.leaves:
            os.chdir("/")
        if hook == self.closes:
            sys.stderr.close()
        with self.file.open("a") as file:
            print(json.dumps([hook, told]), file=file)

    @hookimpl
    def begin_run(self, folder, settings, updates, records):
        self.file = folder / "told.jsonl"
        given = {"folder": str(folder), "updates": updates, "settings": settings, "records": records}
        self.tell("begin_run", given)

    @hookimpl
    def logged(self, records):
        self.tell("logged", records)

    @hookimpl
    def end_run(self, state):
        self.tell("end_run", state)
"""

FALLS = """
from dataclasses import dataclass
from pathlib import Path
from regkit import hookimpl

@dataclass
class Plugin:
    at: int = 12

    @hookimpl
    def after_step(self, step):
        if step == self.at and not Path("mended").exists():
            raise ValueError("it falls")
"""


@pytest.fixture
def run(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train into a folder of this name, with the plugins of this module at hand."""
    (table,) = re.findall(r"<!-- a tracker -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    table = table.replace("class Table:", "class Plugin:")
    with_stranger(monkeypatch, tmp_path / "strangers", watch=WATCH, falls=FALLS, table=table)
    for name in ("encoder", "data"):
        (tmp_path / name).symlink_to(place / name)

    def train(output: str, *more: object) -> Ran:
        return regkit("train", *ARGUMENTS, "--output", output, *more, cwd=tmp_path)

    return train


def told(folder: Path) -> list[tuple[str, Any]]:
    return [(hook, given) for hook, given in map(json.loads, (folder / "told.jsonl").read_text().splitlines())]


def uninstall(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    points = [point for point in catalog.installed().values() if point.name != name]
    monkeypatch.setattr(catalog, "entry_points", lambda group: points)


def log(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_tracker_gets_each_line_of_the_log_between_a_beginning_and_an_end(run: Any, tmp_path: Path) -> None:
    ran = run("run", "-p", "watch", "--group", "mine", "-p", "r3f:weight=2")
    assert ran.status == 0, ran.err
    (first, began), *middle, last = told(tmp_path / "run")
    assert (first, began["folder"], began["updates"]) == ("begin_run", "run", 0)
    expected = {"learning_rate": 0.01, "group": "mine", "plugins.r3f.weight": 2.0, "tasks": "mood"}
    assert began["settings"].items() >= expected.items()
    assert last == ("end_run", "finished")
    lines = log(tmp_path / "run")
    assert [record for _, records in middle for record in records] == lines
    assert max(len(records) for _, records in middle) >= TOGETHER
    updates = [record for record in lines if "losses" in record]
    assert [record["updates"] for record in updates] == list(range(1, 24))
    assert all(record["gradient_norm"] > 0 for record in updates)
    found = numbers(updates[3])
    assert {"losses/mood/task", "losses/mood/r3f", "gradient_norm", "learning_rate"} <= found.keys()
    assert not found.keys() & {"time", "step", "updates", "stage"}


def test_what_a_tracker_is_not_told_of_is_what_the_user_left_out(run: Any, tmp_path: Path) -> None:
    """It follows all stages, and those alone that the user names where he does."""
    domain = ["-p", "domain:corpus=tasks,steps=3", "--steps", "2"]
    assert run("all", "-p", "watch", *domain).status == 0
    assert run("some", "-p", "watch:stages=finetune", *domain).status == 0
    seen = {
        name: Counter(r["stage"] for hook, records in told(tmp_path / name) if hook == "logged" for r in records)
        for name in ("all", "some")
    }
    assert seen["all"]["domain"] >= 3
    assert seen["some"] == {"finetune": seen["all"]["finetune"]}
    updates = [r["updates"] for hook, rs in told(tmp_path / "all") if hook == "logged" for r in rs if "losses" in r]
    assert updates == [1, 2, 3, 4, 5]


def test_a_tracker_that_fails_later_is_told_no_more_and_changes_no_number(run: Any, tmp_path: Path) -> None:
    plain = run("plain", "-p", "rrobin")
    ran = run("run", "-p", "rrobin", "-p", "watch:fails=logged")
    assert (plain.status, ran.status) == (0, 0), ran.err
    (said,) = (line for line in ran.out.splitlines() if "away" in line)
    assert "plugin 'watch' failed in logged" in said
    assert "OSError: the server is away" in said
    assert said.endswith(". Training goes on, and this plugin is told no more of it.")
    assert [hook for hook, _ in told(tmp_path / "run")] == ["begin_run", "end_run"]
    weights = [(tmp_path / name / "best" / "model.safetensors").read_bytes() for name in ("plain", "run")]
    assert weights[0] == weights[1]


def test_a_tracker_that_cannot_begin_ends_the_run_in_a_sentence_and_leaves_no_folder(run: Any, tmp_path: Path) -> None:
    ran = run("run", "-p", "watch:fails=begin_run")
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    said = "'watch' cannot begin to follow the run: the server is away; give it other options, or leave out -p watch."
    assert ran.err == f"regkit: {said}\n"
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "runs" / "latest").is_symlink()


@pytest.mark.parametrize("hook", ["begin_run", "logged", "end_run"])
def test_a_tracker_that_leaves_the_working_directory_ends_the_run(hook: str, run: Any, tmp_path: Path) -> None:
    """It does not fail alone, since others find their files from there."""
    ran = run("run", "-p", f"watch:leaves={hook}")
    is_one_sentence(ran)
    assert f"plugin 'watch': {hook} leaves the working directory changed" in ran.err
    assert (tmp_path / "run").exists() == (hook != "begin_run")


@pytest.mark.parametrize("hook", ["begin_run", "logged", "end_run"])
def test_a_tracker_that_closes_a_stream_ends_the_run_in_a_sentence(hook: str, run: Any, tmp_path: Path) -> None:
    """The sentence is written to the system's stream, which Python leaves open."""
    (tmp_path / "watch.py").write_text(WATCH, encoding="utf8")
    words = ["train", *ARGUMENTS, "--output", "run", "-p", f"./watch.py:Plugin:closes={hook}"]
    ended = forked.command(words, tmp_path)
    _, err = ended.communicate(timeout=300)
    assert ended.returncode == 2
    assert err.startswith(
        f"regkit: plugin 'plugin': {hook} closes sys.stderr, to which others print; leave it open, or "
    )


@pytest.mark.slow
def test_a_run_goes_on_with_other_trackers(run: Any, tmp_path: Path) -> None:
    """With other options, with one more, and without any; a plugin that acts stays as it was."""
    plugins = ["-p", "falls", "-p", "watch:note=old", "--save-steps", "5"]
    assert run("run", *plugins).status == 2
    (tmp_path / "mended").touch()
    shutil.copytree(tmp_path / "run", tmp_path / "bare", symlinks=True)
    refused = regkit("train", "--resume", "run", "-p", "falls:at=3", cwd=tmp_path)
    assert "run has falls:at" in refused.err
    other = regkit("train", "--resume", "run", "-p", "watch:note=new", "-p", "table", cwd=tmp_path)
    assert other.status == 0, other.err
    notes = [
        given["settings"].get("plugins.watch.note") for hook, given in told(tmp_path / "run") if hook == "begin_run"
    ]
    assert notes == ["old", "new"]
    assert (tmp_path / "run" / "numbers.csv").exists()
    before = len(told(tmp_path / "bare"))
    assert run("bare", "--resume", "auto", "-p", "falls").status == 0
    assert len(told(tmp_path / "bare")) == before
    same_run(tmp_path / "run", tmp_path / "bare")


def test_a_run_goes_on_without_a_tracker_whose_server_is_gone(run: Any, tmp_path: Path) -> None:
    """The other trackers are told all the same, and the next command tries it again."""
    assert run("run", "-p", "falls", "-p", "watch", "-p", "table", "--save-steps", "5").status == 2
    (tmp_path / "mended").touch()
    before = told(tmp_path / "run")
    again = regkit("train", "--resume", "run", "-p", "watch:fails=begin_run", cwd=tmp_path)
    assert again.status == 0, again.err
    (said,) = (line for line in again.out.splitlines() if "away" in line)
    assert said.startswith("'watch' cannot begin to follow the run: the server is away")
    assert said.endswith("Training goes on, and this plugin is told no more of it.")
    assert told(tmp_path / "run") == before
    assert "23" in {row.split(",")[1] for row in (tmp_path / "run" / "numbers.csv").read_text().splitlines()}
    assert "watch" in (tmp_path / "run" / "config.toml").read_text()


def test_a_run_goes_on_without_a_tracker_that_is_no_longer_installed(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the command names, and a plugin that acts, must be there."""
    assert run("run", "-p", "falls", "-p", "watch", "--save-steps", "5").status == 2
    (tmp_path / "mended").touch()
    uninstall(monkeypatch, "watch")
    named = regkit("train", "--resume", "run", "-p", "watch", cwd=tmp_path)
    assert (named.status, named.err.split(".")[0]) == (2, "regkit: there is no plugin 'watch'")
    again = regkit("train", "--resume", "run", cwd=tmp_path)
    assert again.status == 0, again.err
    assert "the run goes on without its tracker: there is no plugin 'watch'." in again.out
    assert "no longer as when the run began" not in again.out
    uninstall(monkeypatch, "falls")
    gone = regkit("train", "--resume", "run", cwd=tmp_path)
    assert (gone.status, gone.err.split(".")[0]) == (2, "regkit: there is no plugin 'falls'")


def test_a_run_whose_trackers_library_is_missing_is_refused_and_leaves_nothing(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regkit.hooks.following.find_spec", lambda name: None)
    ran = run("run", "-p", "mlflow")
    assert (ran.status, ran.err) == (2, "regkit: 'mlflow' needs its library: pip install 'regkit[mlflow]'.\n")
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_fails_at_the_end_is_not_said_to_be_told_no_more(run: Any) -> None:
    ran = run("run", "-p", "watch:fails=end_run")
    assert ran.status == 0
    (said,) = (line for line in ran.out.splitlines() if "away" in line)
    assert said.startswith("plugin 'watch' failed in end_run at the end: OSError: the server is away")
    assert said.endswith("Nothing else of the run is lost.")


def test_a_server_that_answers_is_reached_whatever_it_says_and_one_that_does_not_is_named_without_a_password() -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with TCPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.handle_request, daemon=True).start()
        check_server(f"http://127.0.0.1:{server.server_address[1]}")
    with pytest.raises(OSError, match=r"^http://127\.0\.0\.1:9/x cannot be reached: Connection refused$"):
        check_server("http://me:secret@127.0.0.1:9/x")
    with pytest.raises(OSError, match=r"^http://no host cannot be reached: "):
        check_server("http://no host")
    odd = URLError(SSLError("self-signed certificate"))
    with patch("urllib.request.urlopen", side_effect=odd):  # the tracker's library may be told of it
        check_server("https://127.0.0.1:9")


def test_a_folder_of_the_librarys_name_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_such_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match="pip install 'one'"):
        check_library("one", "no_such_tracker", "one")


def test_the_tracker_of_the_docs_has_each_number_once_where_a_run_fell_and_went_on(run: Any, tmp_path: Path) -> None:
    """After an error in `after_step`, a run goes back to its last checkpoint."""
    plugins = ["-p", "falls", "-p", "table", "-p", "watch", "--save-steps", "5"]
    fell = run("fell", *plugins, "--group", "one")
    assert fell.status == 2, fell.out
    assert told(tmp_path / "fell")[-1] == ("end_run", "failed")
    (tmp_path / "mended").touch()
    assert run("whole", *plugins, "--group", "one").status == 0
    again = regkit("train", "--resume", "fell", "--group", "two", cwd=tmp_path)  # which changes no result
    assert again.status == 0, again.err
    same_run(tmp_path / "whole", tmp_path / "fell")
    began = [given for hook, given in told(tmp_path / "fell") if hook == "begin_run"]
    assert [given["updates"] for given in began] == [0, 10]
    assert began[0]["records"] == []
    assert began[1]["records"] == [record for record in log(tmp_path / "fell") if record["updates"] <= 10]
    rows = {
        name: list(csv.reader((tmp_path / name / "numbers.csv").read_text().splitlines())) for name in ("whole", "fell")
    }
    assert {row[0] for row in rows["fell"]} == {"one", "two"}
    steady = {name: [row[1:] for row in found if "seconds" not in row[2]] for name, found in rows.items()}
    assert steady["fell"] == steady["whole"]
    assert max(Counter((row[1], row[2]) for row in rows["fell"]).values()) == 1


def test_numbers_of_a_line_have_the_names_of_their_places() -> None:
    record = {"time": 1.5, "updates": 3, "step": 2, "stage": "finetune", "micro_batch_tokens": 64}
    assert numbers(record) == {"micro_batch_tokens": 64}
    assert numbers(record | {"micro_batch_tokens": 8, "skipped": [{"task": "mood"}]})["skipped"] == 1
    assert numbers({"scores": {"dev": {"mood": {"f1": 0.5}}}}) == {"scores/dev/mood/f1": 0.5}
    assert flatten({"a": {"b": [1, 2]}, "c": None, "d": True}, ".") == {"a.b": "1, 2", "d": True}


@pytest.mark.parametrize("content", ["", "[]", "no json", '{"id": 3, "updates": 1, "scored": true}', '{"id": "x"}'])
def test_a_bookmark_that_says_nothing_is_that_of_a_tracker_that_was_told_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(content)
    records = [{"updates": 0, "scores": {}}, {"updates": 1, "losses": {}}]
    bookmark = Bookmark.open(tmp_path, "mine")
    assert bookmark.new(records) == records
    bookmark.move(records)
    assert Bookmark.open(tmp_path, "mine") == bookmark
    assert bookmark.new([*records, {"updates": 1, "scores": {}}]) == [{"updates": 1, "scores": {}}]
