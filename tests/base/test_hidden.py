"""Hidden: what killed processes left is removed when it is a day old, and nothing else."""

import os
import time
from pathlib import Path

import pytest

from regkit.base.files import write
from regkit.base.hidden import LEFT, hidden, meant


def age(place: Path, seconds: float) -> Path:
    then = time.time() - seconds
    for each in [*place.rglob("*"), place]:
        os.utime(each, (then, then))
    return place


def folder(place: Path, seconds: float) -> Path:
    (place / "inside").mkdir(parents=True)
    (place / "inside" / "model").write_text("half")
    return age(place, seconds)


def file(place: Path, seconds: float) -> Path:
    place.write_text("half")
    return age(place, seconds)


def test_what_a_killed_process_left_goes_a_day_later_and_nothing_else(tmp_path: Path) -> None:
    gone = [file(tmp_path / ".a.csv.12.part", LEFT + 60), folder(tmp_path / ".a.csv.7.part", LEFT + 60)]
    busy = folder(tmp_path / ".a.csv.8.part", LEFT + 60)
    (busy / "inside" / "model").write_text("a little more")
    kept = [
        busy,
        file(tmp_path / ".a.csv.9.part", LEFT - 60),
        file(tmp_path / ".b.csv.9.part", LEFT + 60),
        file(tmp_path / ".a.csv.2024", LEFT + 60),
        file(tmp_path / "a.csv.9.part", LEFT + 60),
    ]
    place = hidden(tmp_path / "a.csv")
    assert (place.parent, place.name) == (tmp_path, f".a.csv.{os.getpid()}.part")
    assert not [each for each in gone if each.exists()]
    assert [each for each in kept if each.exists()] == kept


def test_a_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    other = file(tmp_path / ".a.12.part", LEFT + 60)
    left = file(tmp_path / ".[a].12.part", LEFT + 60)
    write(tmp_path / "[a]", "whole")
    assert (other.exists(), left.exists()) == (True, False)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".a.12.part", "[a]"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (".a.csv.12.part", "a.csv"),
        (".finetune-28.123.part.old", "finetune-28"),
        (".finetune-28.123.old", "finetune-28"),
        (".notes.123", None),  # somebody else's
        ("finetune-28", None),
        (".gitignore", None),
        (".a.csv.part", None),
    ],
)
def test_a_hidden_place_says_what_it_stands_for(name: str, found: str | None) -> None:
    assert meant(Path("folder") / name) == found
    assert meant(hidden(Path("folder") / "a.csv")) == "a.csv"
