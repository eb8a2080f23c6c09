"""Forked: processes of their own that need not import torch, since they are forked off one that has.

A process takes seconds to import what a command needs, and the tests that stop and kill processes start many.

    process = forked.command(["train", "--steps", "3"], cwd=place)
    out, err = process.communicate()
"""

import gc
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.reduction import DupFd
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any
from unittest.mock import patch

import torch

import regkit.cli.ablate
import regkit.cli.evaluate
import regkit.cli.train
import regkit.cli.tune  # noqa: F401 - what commands import late is here before the fork
from regkit.cli import app

FORKING = get_context("forkserver")
FORKING.set_forkserver_preload(
    [
        __name__,
        "torch._dynamo",  # torch's own optimizers import it: 1.5 s
        "optuna.storages._rdb.storage",  # whose libraries a study imports: 0.7 s
        "tests.testing.test_promises",  # all plugins, and what tests are made with: 1 s
    ]
)


class Forked:
    """One process; its attributes and methods are those of `subprocess.Popen` with both outputs piped as text."""

    def __init__(
        self, work: Callable[..., object], *given: Any, cwd: Path, more: Mapping[str, str] | None = None
    ) -> None:
        self.files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - open until the process has ended
        self.said = ("", "")
        environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
        environment |= {"OMP_NUM_THREADS": "1", **(more or {})}
        with patch.dict(os.environ, OMP_NUM_THREADS="1"):  # of the process that forks, which the first one starts
            fds = [DupFd(file.fileno()) for file in self.files]
            self.process = FORKING.Process(target=_begin, args=(cwd, environment, fds, work, given))
            self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise TimeoutExpired(str(self.pid), timeout or 0.0)
        if not all(file.closed for file in self.files):
            self.said = self._read(0), self._read(1)
        return self.process.exitcode

    def _read(self, number: int) -> str:
        with self.files[number] as file:
            file.seek(0)
            return file.read().decode()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return self.said


def command(words: Sequence[object], cwd: Path, **more: str) -> Forked:
    """Start a command of regkit, with `more` in its environment."""
    return Forked(_command, [str(word) for word in words], cwd=cwd, more=more)


def module(words: Sequence[object], cwd: Path, **more: str) -> Forked:
    """Start a module and its arguments, as `python -m` does, with `more` in its environment."""
    return Forked(_module, [str(word) for word in words], cwd=cwd, more=more)


def _module(words: Sequence[str]) -> None:
    sys.argv = [*words]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _command(words: Sequence[str]) -> None:
    sys.argv = ["regkit", *words]
    app.main()


def _begin(
    cwd: Path, environment: Mapping[str, str], fds: Sequence[Any], work: Callable[..., object], given: Sequence[Any]
) -> None:
    """Be as if started on its own: folder, environment, outputs, signals, where Python looks for modules."""
    gc.freeze()  # what was imported before the fork: a study's collector looks through it for 0.3 s after each run
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, fd in enumerate(fds, start=1):
        os.dup2(fd.detach(), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it is ignored
    sys.path[:0] = [
        path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path
    ]
    torch.set_num_threads(1)
    work(*given)
