"""Trackio, by its own storage, in the test's folder."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from regkit_plugins.trackio import Trackio

from regkit import Bookmark
from tests.plugins.followed import LOSS, LOSSES, SCORE, SCORES, SETTINGS, follow

if not importlib.util.find_spec("trackio"):  # it is imported later: it reads the environment then
    pytest.skip("trackio is not installed", allow_module_level=True)
pytestmark = pytest.mark.slow  # its threads end when they like


def test_trackio_has_one_run_with_each_number_once_of_a_run_that_went_on(tmp_path: Path) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    follow(lambda: Trackio(project="followed"), tmp_path)
    name = Bookmark.open(tmp_path, "trackio").id
    assert name.startswith(f"{tmp_path.name}-")
    assert SQLiteStorage.get_runs("followed") == [name]
    logs: list[dict[str, Any]] = SQLiteStorage.get_logs("followed", name)
    for metric, expected in ((LOSS, LOSSES), (SCORE, SCORES)):
        assert [(each["step"], each[metric]) for each in logs if metric in each] == expected
    config: dict[str, Any] = SQLiteStorage.get_run_config("followed", name)
    assert config.items() >= SETTINGS.items()
    assert config["_Group"] == "study/smart"


def test_trackio_refuses_to_begin_where_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "file" / "trackio")
    with pytest.raises(NotADirectoryError):
        Trackio().begin_run(tmp_path, {}, [])
    assert not (tmp_path / "trackio.json").exists()
