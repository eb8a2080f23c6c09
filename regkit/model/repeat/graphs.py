"""Graphs: capture passes as CUDA graphs, and replay them.

A GPU is told of a whole pass at once, which takes microseconds; it takes ten times as long to be told of each operation as to
do it, with batches of usual sizes. Each kind of graph is compared with torch's operations, once: unless all bits are the
same, none is used.
"""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from regkit.base.failures import in_one_line
from regkit.base.randomness import set_states, states_of
from regkit.model.repeat.sizes import Rounded
from regkit.model.repeat.work import Pass, Work, gradients

PASSES = 6  # whose results are kept at the same time, at most: each has memory of its own
MOST = 512  # graphs

T = TypeVar("T")


class Graphs:
    """The graphs of an encoder.

    Passes that are under way at the same time have memory apart: that of one is used again when its gradient is computed.
    """

    wrong = ""  # why none is used any more in this process: the generator that they draw from has been put aside

    def __init__(self) -> None:
        self.captured: dict[tuple[object, ...], Captured] = {}  # by work and memory
        self.memory: list[Memory] = []
        self.room: Tensor | None = None  # for the gradients of all weights, in which each graph leaves them
        self.right: set[object] = set()  # the manners that were compared

    def begin(self, work: Work, embeddings: Tensor, given: Rounded) -> "Graph | None":
        """Begin a pass, captured now if it was not; None if it cannot be."""
        if Graphs.wrong:
            self.captured.clear()  # and with them their memory
            return None
        if not (memory := self._free()):
            return None
        found = self.captured.get((work.key, memory.number))
        if found is None and len(self.captured) < MOST:
            found = self._capture(work, memory, embeddings, given)
        return None if found is None else Graph(found, embeddings, given)

    def _free(self) -> "Memory | None":
        """Find memory that no pass under way uses."""
        found = next((memory for memory in self.memory if not memory.used), None)
        if found is None and len(self.memory) < PASSES:
            found = Memory(len(self.memory))
            self.memory.append(found)
        return found

    def _capture(self, work: Work, memory: "Memory", embeddings: Tensor, given: Rounded) -> "Captured | None":
        device, kind = embeddings.device, (work.first, work.manner)
        generator, states = generator_of(device), states_of(device)
        spare = generator.clone_state()
        try:
            with uncollected():
                found = Captured(work, memory, embeddings, given, self._room(work))
            if kind not in self.right and not is_right(found, work, embeddings, given):
                raise RuntimeError("gives other results than torch's operations one by one")
        except Exception as error:  # this card, or this torch, cannot capture an operation, or has no memory left
            generator.graphsafe_set_state(spare)  # the one that was in use waits for the end of the capture
            Graphs.wrong = in_one_line(error)
            logging.getLogger(__name__).warning("no CUDA graphs are used, which takes longer: one %s", Graphs.wrong)
            return None
        finally:
            set_states(device, states)
        self.right.add(kind)
        self.captured[work.key, memory.number] = found
        return found

    def _room(self, work: Work) -> Tensor | None:
        size = sum(weight.numel() for weight in work.trained)
        if size and (self.room is None or len(self.room) != size):
            self.room = work.trained[0].new_empty(size)
        return self.room if size else None


class Memory:
    """Memory that graphs share, of which one is under way at a time."""

    def __init__(self, number: int) -> None:
        self.number, self.used = number, False
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # what is freed on one is not used on another


class Captured:
    """A pass as graphs: forward, and backward to the embeddings alone or to the weights as well."""

    def __init__(self, work: Work, memory: Memory, embeddings: Tensor, given: Rounded, room: Tensor | None) -> None:
        self.memory, self.room = memory, room
        self.embeddings = embeddings.detach().clone().requires_grad_(work.manner.moved)
        self.given = Rounded(*(each.clone() for each in given))
        here, aside = torch.cuda.current_stream(), memory.stream
        aside.wait_stream(here)
        with torch.cuda.stream(aside), work.aliased() as own:  # torch's leaves belong to the stream of their first use
            with work.again(embeddings.device, cached=False):
                self.ahead, output = recorded(memory, lambda: own.compute(self.embeddings, self.given))
            self.output, self.gradient, self.moved = output.detach(), torch.zeros_like(output), None
            self.back: dict[bool, torch.cuda.CUDAGraph] = {}
            for whole in [False] * work.manner.moved + [True] * bool(work.trained):  # the second frees what is kept
                self.back[whole], self.moved = recorded(memory, partial(self._back, own, output, whole))
        here.wait_stream(aside)

    def _back(self, work: Work, output: Tensor, whole: bool) -> Tensor | None:
        moved, rest = gradients(work, output, self.embeddings, self.gradient, whole, keep=not whole)
        if rest and self.room is not None:
            torch._foreach_copy_(list(torch.split(self.room, [len(each) for each in rest])), rest)
        return moved if moved is None or self.moved is None else self.moved.copy_(moved)


class Graph:
    """A pass under way, whose memory is its own as long as this lives."""

    def __init__(self, captured: Captured, embeddings: Tensor, given: Rounded) -> None:
        self.captured = captured
        captured.memory.used = True
        with torch.no_grad():
            for place, value in zip((captured.embeddings, *captured.given), (embeddings, *given), strict=True):
                place.copy_(value)
        captured.ahead.replay()

    def __del__(self) -> None:
        self.captured.memory.used = False

    def forward(self) -> Tensor:
        return self.captured.output.clone()

    def backward(self, gradient: Tensor, whole: bool) -> tuple[Tensor | None, Tensor | None]:
        it = self.captured
        it.gradient.copy_(gradient)
        it.back[whole].replay()
        return (
            None if it.moved is None else it.moved.clone(),
            it.room.clone() if whole and it.room is not None else None,
        )


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python from collecting garbage: to free another run's graphs would spoil what is captured."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def generator_of(device: torch.device) -> torch.Generator:
    """Find torch's default generator of a GPU."""
    generator: torch.Generator = torch.cuda.default_generators[device.index or 0]
    return generator


def recorded(memory: Memory, work: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
    """Capture what is queued by some work."""
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin(pool=memory.pool, capture_error_mode="thread_local")
    try:
        found = work()
    except Exception:
        with suppress(RuntimeError):  # which says that there was an error
            graph.capture_end()
        raise
    graph.capture_end()
    return graph, found


def is_right(captured: Captured, work: Work, embeddings: Tensor, given: Rounded) -> bool:
    """Whether a graph gives torch's bits, and draws as many random numbers."""
    states, gradient = states_of(embeddings.device), torch.randn_like(captured.output)
    found: list[list[Tensor]] = []
    for begin in (partial(Graph, captured), partial(Pass, work)):
        set_states(embeddings.device, states)
        it = begin(embeddings, given)
        found.append([it.forward(), *states_of(embeddings.device)])
        for whole in captured.back:
            found[-1] += [each for each in it.backward(gradient, whole) if each is not None]
    return all(map(torch.equal, *found))
