"""Fit: find micro-batches that fit in memory; if it runs out, halve them and do the same work again."""

import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from regkit.base.errors import LostError, RunError
from regkit.base.failures import gone, ran_out, where
from regkit.data.order import Feed, cut, size
from regkit.data.weights import lengths_in, lengths_of, weigh
from regkit.distributed.processes import LOST, Processes
from regkit.model import MultitaskModel
from regkit.model.squares import square
from regkit.tasks.batch import Batch
from regkit.tasks.task import Dataset, Task
from regkit.training.estimate import estimate_tokens
from regkit.training.passes import Passes
from regkit.training.state import Position, State

T = TypeVar("T")

MOST = 16384  # tokens in a micro-batch, at first
MOST_ON_CPU = 1024  # where larger micro-batches save no time
MOST_OF_ANY_LENGTH = 2048  # on a CPU, where a batch counts for more than it has, as its longest text counts for all


class Size(NamedTuple):
    """What a micro-batch holds."""

    examples: int
    tokens: int  # as it is counted, see `order.size`
    longest: int  # tokens of its longest example


@dataclass
class Fit:
    """Cuts batches into micro-batches. The cut never changes a gradient, but for rounding and dropout."""

    micro_batch_tokens: int = MOST  # most in a micro-batch
    memory: int | None = None  # bytes: most to take; at the start of a stage it makes a smaller number of tokens
    position: Position = field(default_factory=Position)  # which remembers that fewer were found to fit
    square: float = 0.0  # tokens that the square of a text's length counts as, see `model.squares.square`
    sizes: list[Size] = field(default_factory=list)  # of what the present work has cut
    whole: Sequence[str] = ()  # plugins of this stage that need whole batches: then they are not cut

    @classmethod
    def on(
        cls, model: MultitaskModel, tokens: int | None = None, memory: int | None = None, *, bucketing: bool = True
    ) -> "Fit":
        """Make what fits a model on its device: at most so many tokens, or the usual number there.

        `bucketing` says whether texts of like length are together.
        """
        device = model.device
        on_cpu = MOST_ON_CPU if bucketing else MOST_OF_ANY_LENGTH
        usual = on_cpu if device.type == "cpu" else MOST
        return cls(tokens or usual, memory, square=square(model.encoder, device))

    def begin(self, state: State, passes: Passes, tasks: Sequence[Task], processes: Processes) -> None:
        """Begin or resume a stage: with a bound on memory, estimate what fits unless the position knows it."""
        self.position, self.whole = state.position, state.needing_whole_batches()
        if self.position.square is None:
            self.position.square = self.square
        self.square = self.position.square
        if self.memory and self.position.micro_batch_tokens is None:
            self.position.micro_batch_tokens = self.estimate(state, passes, tasks, processes)

    def estimate(self, state: State, passes: Passes, tasks: Sequence[Task], processes: Processes) -> int:
        """Estimate how many tokens a micro-batch may have for each of the processes to stay within `memory`."""
        assert state.optimizer is not None  # it is built when a stage begins
        found = estimate_tokens(passes, state.optimizer, tasks, self.memory or 0, state.plugins, self.square)
        return min(self.micro_batch_tokens, -processes.largest(-found)[0])

    @property
    def tokens(self) -> int:
        """Most tokens in a micro-batch, by what is known now."""
        return min(self.micro_batch_tokens, self.position.micro_batch_tokens or self.micro_batch_tokens)

    def batches(self, feed: Feed, processes: int) -> list[Batch]:
        """Cut a task's next batch into micro-batches that fit, as many for each of so many processes."""
        number = self.position.seen.get(feed.task.name, 0)
        if self.whole:
            return feed.micro_batches(number, sys.maxsize)
        found = feed.micro_batches(number, self.tokens, processes)
        self._note(map(lengths_in, found))
        return found

    def cut(self, rows: Sequence[int], examples: Dataset, most: int) -> list[Sequence[int]]:
        """Cut the rows of a split into passes that fit, each of at most `most` tokens."""
        lengths = lengths_of(examples)
        parts = cut(rows, weigh(lengths, self.square), min(self.tokens, most))
        self._note(lengths[part] for part in parts)
        return parts

    def _note(self, parts: Iterable[np.ndarray]) -> None:
        """Note micro-batches, each by the tokens of its sequences, `[examples, sides]`."""
        for part in parts:
            self.sizes.append(Size(len(part), size(weigh(part, self.square)), int(part.sum(1).max())))

    def until_it_fits(self, work: Callable[[], T], when: str) -> T:
        """Do the work; if memory runs out, halve the micro-batches and do it again from the start.

        Raises RunError where every micro-batch that `work` has cut is a single example. `when` is for its sentence.
        """
        while True:
            self.sizes.clear()
            try:
                return work()
            except Exception as error:
                if not ran_out(error):
                    raise
                self._halve(f"{when}{where(error)}")
            free()  # only now: the tensors of the broken-off work hang on the frames that its error keeps

    def _halve(self, when: str) -> None:
        if self.whole and not self.sizes:
            raise RunError(f"memory ran out {when}; {_named(self.whole)}: take a smaller batch_size or max_length.")
        several = [each.tokens for each in self.sizes if each.examples > 1]
        if not several:
            longest = max((each.longest for each in self.sizes), default=0)
            raise RunError(
                f"memory ran out {when}, with one example at a time, the longest of {longest} tokens; "
                "begin with a lower max_length, a smaller encoder, or without the plugins that need most."
            )
        self.position.micro_batch_tokens = max(several) // 2


def _named(whole: Sequence[str]) -> str:
    return f"batches are not cut, because {' and '.join(map(repr, whole))} needs whole ones"


def free() -> None:
    """Give back memory that nothing uses any more."""
    gc.collect()  # frames that are in a cycle with their error
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


@contextmanager
def explained(when: Callable[[], str]) -> Iterator[None]:
    """Say in one sentence why training cannot go on: a process is gone, or memory ran out for good."""
    try:
        yield
    except Exception as error:
        if gone(error):
            raise LostError(f"{LOST}.") from error
        if ran_out(error):
            raise RunError(
                f"memory ran out {when()}{where(error)}, where smaller micro-batches are no remedy; "
                "take a smaller encoder, or leave out plugins that keep a copy of it."
            ) from error
        raise
