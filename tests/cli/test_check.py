"""`regkit plugins check`: what it prints, as text and as JSON, and the exit status."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from regkit.testing import NotApplicableError, kit
from regkit.testing.contract import it_acts
from tests.cli.test_bad_input import is_one_sentence
from tests.helpers import regkit
from tests.hooks.test_files import MINE


def not_for_it(factory: Any, tasks: Any) -> None:
    raise NotApplicableError("it is of another family")


def broken(factory: Any, tasks: Any) -> None:
    raise AssertionError("its numbers are wrong: add two [b]and[/b] two\nassert 4 == 5")


def right(factory: Any, tasks: Any) -> None:
    return


def only(monkeypatch: pytest.MonkeyPatch, checks: Mapping[str, kit.Check]) -> None:
    monkeypatch.setattr(kit, "checks", lambda: checks)


def test_each_check_is_a_line_with_its_reason_and_the_last_line_counts_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    only(monkeypatch, {"it_acts": it_acts, "right": right, "broken": broken, "not_for_it": not_for_it})
    ran = regkit("plugins", "check", "rrobin", cwd=tmp_path)
    assert ran.status == 1
    assert ran.out.splitlines() == [
        "passed          it_acts",
        "passed          right",
        "failed          broken: its numbers are wrong: add two [b]and[/b] two",
        "not applicable  not_for_it: it is of another family",
        "rrobin: 2 passed, 1 failed, 1 not applicable, 0 skipped",
    ]


def test_json_is_the_same_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, {"right": right, "broken": broken})
    ran = regkit("plugins", "check", "rrobin:per_step=2", "--json", cwd=tmp_path)
    assert ran.status == 1
    assert json.loads(ran.out) == {
        "plugin": "rrobin:per_step=2",
        "counts": {"passed": 1, "failed": 1, "not applicable": 0, "skipped": 0},
        "checks": [
            {"check": "right", "outcome": "passed", "reason": ""},
            {"check": "broken", "outcome": "failed", "reason": "its numbers are wrong: add two [b]and[/b] two"},
        ],
    }


def test_what_a_plugin_prints_is_not_among_the_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, {"right": right})
    (tmp_path / "mine.py").write_text(MINE + "print('hello')\n", encoding="utf8")
    ran = regkit("plugins", "check", "mine.py", "--json", cwd=tmp_path)
    assert json.loads(ran.out)["counts"]["passed"] == 1
    assert "hello" in ran.err


def test_where_nothing_was_checked_the_status_is_5(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, {"it_acts": it_acts, "right": right})
    ran = regkit("plugins", "check", "tensorboard", cwd=tmp_path)
    assert ran.status == 5
    assert ran.out.endswith("tensorboard: 0 passed, 0 failed, 2 not applicable, 0 skipped\n")
    assert "it only follows the run's log" in ran.out


def test_the_users_mistakes_are_sentences(tmp_path: Path) -> None:
    for words in ("smrt", "smart:wieght=3", "smart:weight=-1", "only"):
        is_one_sentence(regkit("plugins", "check", words, cwd=tmp_path))
    assert "NAME" in regkit("plugins", "check", cwd=tmp_path).err
    ran = regkit("plugins", "chekc", "smart", cwd=tmp_path)
    is_one_sentence(ran)
    assert "there is no command 'chekc'. Did you mean 'check'?" in ran.err
