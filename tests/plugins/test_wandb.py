"""Weights & Biases, offline, by the files that it would send."""

import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from regkit_plugins.wandb import WandB

from regkit import Bookmark
from tests.plugins.followed import CHECKPOINT, LAST, LOSS, LOSSES, SCORE, SCORES, SETTINGS, follow, lines, tell

if not importlib.util.find_spec("wandb"):
    pytest.skip("wandb is not installed", allow_module_level=True)
pytestmark = pytest.mark.slow  # it starts a process of its own

BLOCK, HEADER = 32768, 7  # bytes of the journal that LevelDB has too: blocks of parts, each with a header


KILLED = """
import os, signal, sys
from pathlib import Path
from regkit_plugins.wandb import WandB
from tests.plugins.followed import FAILED, lines, tell

tell(WandB(project="followed"), Path(sys.argv[1]), 0, lines(0, FAILED), None)
os.kill(os.getpid(), signal.SIGKILL)
"""


def records(file: Path) -> Iterator[Any]:
    """The records of a file of wandb's."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, whole = file.read_bytes(), HEADER, b""
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + HEADER])
        whole += content[place + HEADER : place + HEADER + size]
        place += HEADER + size
        if kind in (1, 4):  # whole, or the last part of one
            yield Record.FromString(whole)
            whole = b""


def recorded(folder: Path) -> list[Any]:
    return [each for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")) for each in records(file)]


def history(found: list[Any], name: str) -> list[tuple[int, float]]:
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in each.history.item}
        for each in found
        if each.WhichOneof("record_type") == "history"
    ]
    return [(row["_step"], row[name]) for row in rows if name in row]


def test_wandb_has_one_run_with_each_number_once_of_a_run_that_went_on(tmp_path: Path) -> None:
    import wandb

    follow(lambda: WandB(project="followed"), tmp_path)
    wandb.teardown()  # and what its process still holds is on the disk
    found = recorded(tmp_path)
    assert history(found, LOSS) == LOSSES
    assert history(found, SCORE) == SCORES
    runs = [each.run for each in found if each.WhichOneof("record_type") == "run"]
    assert {run.run_id for run in runs} == {Bookmark.open(tmp_path, "wandb").id}
    assert {(run.project, run.run_group, run.display_name) for run in runs} == {
        ("followed", "study/smart", tmp_path.name)
    }
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert config.items() >= SETTINGS.items()
    assert [each.exit.exit_code for each in found if each.WhichOneof("record_type") == "exit"] == [1, 0]


def test_wandb_has_each_number_once_of_a_run_that_was_killed_and_went_on(tmp_path: Path) -> None:
    """wandb writes late: nothing that a killed process had told it is on the disk."""
    import wandb

    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=tmp_path).returncode == -signal.SIGKILL
    assert Bookmark.open(tmp_path, "wandb").updates == -1
    tell(WandB(project="followed"), tmp_path, CHECKPOINT, lines(CHECKPOINT, LAST), "finished")
    wandb.teardown()
    found = recorded(tmp_path)
    assert history(found, LOSS) == LOSSES
    assert history(found, SCORE) == SCORES
    assert Bookmark.open(tmp_path, "wandb").updates == LAST
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1


def test_wandb_without_a_network_records_offline_at_once_unless_the_user_wants_it_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import wandb

    for name, value in (("MODE", None), ("API_KEY", "a" * 40), ("BASE_URL", "http://127.0.0.1:9"), ("SILENT", None)):
        monkeypatch.setenv(f"WANDB_{name}", value) if value else monkeypatch.delenv(f"WANDB_{name}", raising=False)
    wandb.teardown()
    began = time.monotonic()
    try:
        tell(WandB(), tmp_path, 0, lines(0, 3), "finished")
        took = time.monotonic() - began
        wandb.teardown()
        monkeypatch.setenv("WANDB_MODE", "online")
        with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9 cannot be reached: Connection refused"):
            tell(WandB(), tmp_path, 0, lines(0, 3), "finished")
    finally:
        wandb.teardown()
    assert took < 30
    assert "cannot be reached: Connection refused; the run is recorded offline" in capfd.readouterr().err
    assert [step for step, _ in history(recorded(tmp_path), LOSS)] == [1, 2, 3]


def test_wandb_without_an_account_records_offline_and_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a terminal, where wandb would ask."""
    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SILENT"]:
        monkeypatch.delenv(name)
    for name, place in (("HOME", "home"), ("NETRC", "netrc"), ("WANDB_CONFIG_DIR", "config")):
        monkeypatch.setenv(name, str(tmp_path / place))
    wandb.teardown()
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("it asks"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    try:
        tell(WandB(), tmp_path, 0, lines(0, 3), "finished")
    finally:
        wandb.teardown()  # and what its process still holds is on the disk
    assert [step for step, _ in history(recorded(tmp_path), LOSS)] == [1, 2, 3]
