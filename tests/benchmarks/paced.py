"""Paced: run another library's training loop one step at a time."""

from collections.abc import Callable
from threading import Semaphore, Thread

import torch


class Paced:
    """A loop that waits, in a thread of its own, until it is asked for its next step.

    Times are then those of its own loop, taken in turn with others. The loop calls `wait` before its first step, and at
    the end of each.
    """

    def __init__(self, train: Callable[["Paced"], object], threads: int) -> None:
        self._asked, self._waits = Semaphore(0), Semaphore(0)
        self._ended = ""
        Thread(target=self._run, args=(train, threads), daemon=True).start()
        self._let_run()

    def _run(self, train: Callable[["Paced"], object], threads: int) -> None:
        torch.set_num_threads(threads)  # a new thread begins with all cores
        try:
            train(self)
            self._ended = "it has no more steps"
        except BaseException as error:
            self._ended = f"{type(error).__name__}: {error}"
        self._waits.release()

    def wait(self) -> None:
        """Called by the loop: wait to be asked for a step."""
        self._waits.release()
        self._asked.acquire()

    def step(self, number: int) -> None:
        """Let the loop make its next step. Raises RuntimeError if it has ended."""
        self._asked.release()
        self._let_run()

    def _let_run(self) -> None:
        self._waits.acquire()
        if self._ended:
            raise RuntimeError(f"the training loop ended: {self._ended}")
