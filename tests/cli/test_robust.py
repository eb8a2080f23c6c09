"""`regkit eval --robust`: what a run loses on changed texts, for each task."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers import regkit


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    given = ["--encoder", "encoder", "--data", "data", "--batch-size", "8", "--steps", "6", "--output", "run"]
    assert regkit("train", *given, cwd=place).status == 0
    return place / "run"


def test_each_task_has_a_line_with_each_change_and_its_difference(run: Path, place: Path) -> None:
    ran = regkit("eval", "run", "--robust", cwd=place)
    assert ran.status == 0, ran.err
    head, *lines = ran.out.splitlines()
    assert head.endswith("run: dev")
    assert [line.split(":")[0].strip() for line in lines] == ["mood", "same", "near"]
    one = r"  \w+: \w+ -?\.?[\d.]+; " + ", ".join(
        rf"{name} \S+ \([+-]\S+\)" for name in ("typos", "synonyms", "attack")
    )
    assert all(re.fullmatch(one, line) for line in lines), lines


def test_json_has_every_score_before_and_after_and_an_attack_does_not_help(run: Path, place: Path) -> None:
    found = json.loads(regkit("eval", "run", "--robust", "--json", cwd=place).out)
    (changes,) = found["runs"].values()
    assert list(changes) == ["typos", "synonyms", "attack", "notes"]
    plain = json.loads(regkit("eval", "run", "--json", cwd=place).out)["dev"]
    assert changes["typos"]["before"]["mood"] == pytest.approx(plain["mood"])
    for scores in (changes["attack"]["before"], changes["attack"]["after"]):
        assert scores.keys() == plain.keys()
    assert all(changes["attack"]["after"][task]["loss"] > changes["attack"]["before"][task]["loss"] for task in plain)


@pytest.mark.parametrize("other", ["--report", "--ensemble"])
def test_what_does_not_go_with_it_is_refused(other: str, run: Path, place: Path) -> None:
    ran = regkit("eval", "run", "--robust", other, cwd=place)
    assert ran.status == 2
    assert ran.err == f"regkit: --robust is asked for by itself; leave {other} out.\n"


def test_a_split_without_labels_is_refused(run: Path, place: Path) -> None:
    ran = regkit("eval", "run", "--robust", "--split", "test", cwd=place)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
