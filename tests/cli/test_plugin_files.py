"""Plugins in files on the command line: the run says what code it runs, notes it, and asks for it again."""

import json
import tomllib
from pathlib import Path

import pytest

from tests.helpers import Ran, regkit, write_encoder, write_tasks
from tests.hooks.test_files import MINE

SCALED = """
from dataclasses import dataclass
import torch
from regkit import hookimpl

class Scaled(torch.nn.Module):
    def __init__(self, layer, width):
        super().__init__()
        self.layer, self.scale = layer, torch.nn.Parameter(torch.ones(width))

    def forward(self, *given):
        return self.scale * self.layer(*given)

@dataclass
class Scales:
    @hookimpl
    def build(self, model):
        print("building")
        for place, layer in enumerate(model.encoder.layers):
            model.encoder.layers[place] = Scaled(layer, model.encoder.width)
"""
FAILING = """
from dataclasses import dataclass
from regkit import hookimpl

@dataclass
class Failing:
    @hookimpl
    def after_step(self, step):
        if step == 2: raise ValueError("no more")
"""
MORE = ("--data", "data", "--encoder", "encoder", "--steps", 1, "--measure-every", 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    (folder / "mine.py").write_text(MINE, encoding="utf8")
    assert train(folder, "-p", "./mine.py:MyPull:weight=2", *MORE, "--output", "run").status == 0
    return folder


def train(place: Path, *words: object) -> Ran:
    return regkit("train", *words, cwd=place)


def test_the_run_notes_the_file_the_class_and_the_digest(place: Path) -> None:
    found = tomllib.loads((place / "run" / "config.toml").read_text())["plugins"]["my_pull"]
    assert found["weight"] == 2.0
    assert (found["code"]["file"], found["code"]["class"]) == (str(place / "mine.py"), "MyPull")
    assert len(found["code"]["sha256"]) == 64


@pytest.mark.parametrize("kind", ["@dataclass(slots=True)", "@dataclass(frozen=True, slots=True)"])
def test_a_plugin_may_have_slots_and_be_frozen(kind: str, place: Path) -> None:
    (place / "slots.py").write_text(MINE.replace("@dataclass", kind), encoding="utf8")
    ran = train(place, "-p", "slots.py:weight=3", "--data", "data", "--encoder", "encoder", "--dry-run")
    assert "plugin my_pull (weight=3.0): answers extra_losses" in ran.out


def test_a_run_goes_on_where_the_command_names_the_same_code(place: Path) -> None:
    refused = train(place, "--resume", "run")
    assert refused.status == 2
    assert f"to run that code, add -p {place / 'mine.py'}:MyPull" in refused.err
    ran = train(place, "--resume", "run", "-p", "mine.py")
    assert ran.status == 0, ran.err
    assert f"plugin my_pull: running the code of {place / 'mine.py'}, class MyPull, sha256 " in ran.out
    (place / "changed.py").write_text(MINE + "# changed\n", encoding="utf8")
    changed = train(place, "--resume", "run", "-p", "changed.py")
    assert changed.status == 2
    assert "changed.py is not the code that the run began with" in changed.err


def test_a_plugin_in_a_file_that_fails_is_told_that_its_run_goes_on_with_this_code_alone(place: Path) -> None:
    (place / "failing.py").write_text(FAILING, encoding="utf8")
    ran = train(place, "-p", "failing.py", *MORE, "--steps", 3, "--save-steps", 1, "--output", "failed")
    file = place / "failing.py"
    assert f"ValueError: no more ({file}, line 9). " in ran.err
    words = f"regkit train --resume failed -p {file}:Failing"
    assert ran.err.endswith(f" is saved, for {file} as it is (other code needs a new run); to go on: {words}\n")


def test_a_config_alone_runs_no_code_and_a_command_may_run_other_code(place: Path) -> None:
    config = place / "run" / "config.toml"
    assert "to run that code, add -p" in train(place, config, "--dry-run").err
    (place / "newer.py").write_text(MINE + "# newer\n", encoding="utf8")
    ran = train(place, config, "--dry-run", "-p", "newer.py")
    assert ran.status == 0, ran.err
    assert "plugin my_pull (weight=2.0): answers extra_losses" in ran.out


def test_what_one_command_may_run_another_may_not(place: Path) -> None:
    assert train(place, "-p", "mine.py", *MORE, "--dry-run").status == 0
    assert "there is no plugin 'my_pull'" in train(place, "-p", "my_pull", *MORE, "--dry-run").err


@pytest.mark.slow
def test_a_model_with_modules_of_a_file_is_scored_where_the_command_names_the_same_code(place: Path) -> None:
    (place / "scaled.py").write_text(SCALED, encoding="utf8")
    ran = train(place, "-p", "./scaled.py", "-p", "./mine.py", *MORE, "--output", "scaled")
    assert ran.out.splitlines()[-1] == f"to evaluate it: regkit eval scaled -p {place / 'scaled.py'}:Scales"
    assert f"to run that code, add -p {place / 'scaled.py'}:Scales" in regkit("eval", "scaled", cwd=place).err
    assert regkit("eval", "scaled", "-p", "scaled.py", cwd=place).status == 0
    assert train(place, "-p", "./scaled.py", "-p", "./mine.py", *MORE, "--seed", 1, "--output", "other").status == 0
    averaged = regkit("average", "scaled", "other", "-p", "scaled.py", "--output", "both", cwd=place)
    assert averaged.out.splitlines()[-1] == f"to evaluate it: regkit eval both -p {place / 'scaled.py'}:Scales"
    assert regkit("report", "scaled", "-p", "scaled.py", cwd=place).status == 0
    assert "to run that code" not in (place / "scaled" / "report.html").read_text()
    scored = regkit("eval", "scaled", "-p", "scaled.py", "--json", cwd=place)
    assert "mood" in json.loads(scored.out)["dev"]
    (place / "new.txt").write_text("a good one\n", encoding="utf8")
    answered = regkit("predict", "scaled", "new.txt", "-p", "scaled.py", "--task", "mood", "--json", cwd=place)
    assert [json.loads(line)["text"] for line in answered.out.splitlines()] == ["a good one"]
    (place / "scaled.py").write_text(SCALED + "# changed\n", encoding="utf8")
    changed = regkit("eval", "scaled", "-p", "scaled.py", cwd=place)
    assert changed.status == 2
    assert "scaled.py is not the code that the run began with" in changed.err


@pytest.mark.slow
def test_rows_of_a_study_may_be_files(place: Path) -> None:
    words = ("-p", "./mine.py:weight=2+dropout=0", "-p", "smart+./mine.py", "--seeds", 1, "--dry-run")
    ran = regkit("ablate", *words, *MORE, "--output", "study", cwd=place)
    assert ran.status == 0, ran.err
    assert "row my_pull:weight=2+dropout=0: my_pull:weight=2+dropout=0" in ran.out
    assert "row smart+my_pull: smart+my_pull" in ran.out


@pytest.mark.slow
def test_a_worker_is_asked_for_the_code_before_it_takes_a_run(place: Path) -> None:
    words = ("-p", "./mine.py", "--seeds", 1, "--jobs", 0, *MORE)
    noted = regkit("ablate", *words, "--output", "noted", cwd=place)
    assert noted.status == 0, noted.err
    assert f"regkit work noted -p {place / 'mine.py'}:MyPull" in noted.out
    refused = regkit("work", "noted", cwd=place)
    assert refused.status == 2
    assert "to run that code, add -p" in refused.err
