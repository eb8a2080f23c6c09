"""Signals: a command that one ends takes away what it began, in one line, whatever a library makes of it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regkit.cli.signals import heeded
from regkit.runs.export import onnx
from tests.helpers import regkit, write_encoder, write_tasks


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("place")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    words = ["--encoder", "encoder", "--data", "data", "--tasks", "mood", "--steps", "1", "--output", "run"]
    assert regkit("train", *words, cwd=folder).status == 0
    return folder


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The handlers that a program begins with, whatever the tests' own have."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupts(number: signal.Signals, error: type[BaseException] | None) -> Callable[..., None]:
    """Make a function that is interrupted, and that makes an error of its own of it, if any."""

    def work(*given: object, **options: object) -> None:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        except KeyboardInterrupt:
            raise (error or KeyboardInterrupt)("module 'library' has no attribute 'exc'") from None

    return work


@pytest.mark.parametrize("error", [None, AttributeError, RuntimeError])
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "interrupted at once"),
        (signal.SIGTERM, "ended at once by SIGTERM"),
        (signal.SIGHUP, "ended at once by SIGHUP"),
    ],
)
def test_an_export_that_a_signal_ends_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, said: str, error: type[BaseException] | None
) -> None:
    monkeypatch.setattr(onnx, "write", interrupts(number, error))
    before = sorted(place.iterdir())
    ran = regkit("export", "run", "--format", "onnx", "--output", "there", cwd=place)
    assert (ran.status, ran.err) == (128 + number, f"regkit: {said}.\n")
    assert sorted(place.iterdir()) == before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # put back


def test_a_signal_that_is_ignored_or_has_another_handler_is_left_alone() -> None:
    mine: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: mine.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup asks
    with heeded() as came:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
    assert (mine, came) == ([signal.SIGTERM], [])
