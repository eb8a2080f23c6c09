"""Estimate: find how large micro-batches may be for a process to stay within a bound on memory.

An update is tried with one of the longest examples, and with a few, with all plugins at work, and the tensors that are
alive at once are counted; more examples take more in proportion. Neither weights nor plugins nor random states are changed
by it.
"""

import copy
import ctypes
import gc
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from regkit.base.errors import ConfigError
from regkit.base.operations import EachOperation
from regkit.data.order import size
from regkit.data.weights import lengths_in, lengths_of, weigh
from regkit.hooks.marks import held
from regkit.model.modes import mode
from regkit.model.table import forget_memory
from regkit.tasks.batch import Batch
from regkit.tasks.task import Task, scorable
from regkit.training.passes import Passes
from regkit.training.update import Update, combines

HEAP = 2**25  # bytes below which a tensor is on the C library's heap
FRAGMENTED = 2  # bytes that the heap takes for each byte on it, where its holes are worst


class Live(EachOperation):
    """Counts the bytes of the tensors made inside while they live: `history` has the sum after each.

    Each byte of a small tensor counts as `fragmented` many.
    """

    def __init__(self, fragmented: int = FRAGMENTED) -> None:
        super().__init__()
        self.fragmented, self.now = fragmented, 0
        self.history: list[int] = [0]
        self.counted: set[int] = set()  # storages

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        found = operation(*arguments, **(options or {}))
        for storage in (tensor.untyped_storage() for tensor in _tensors(found)):
            given = (id(tensor.untyped_storage()) for tensor in _tensors((arguments, options)))
            if id(storage) not in self.counted and id(storage) not in given:  # or else a view, or changed in place
                takes = with_holes(storage.nbytes(), self.fragmented)
                self.counted.add(id(storage))
                self.now += takes
                self.history.append(self.now)
                finalize(storage, self._gone, id(storage), takes)
        return found

    def _gone(self, storage: int, takes: int) -> None:
        self.counted.discard(storage)
        self.now -= takes


def with_holes(size: int, fragmented: int = FRAGMENTED) -> int:
    """Count the bytes that a tensor of this size takes, with the holes of the heap.

    The heap has one around each small tensor.
    """
    return size * fragmented if size < HEAP else size


def _tensors(value: Any) -> Iterator[Tensor]:
    """List the tensors among what an operation takes or gives, which may be in lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


@dataclass
class TrialUpdate:
    """One trial update: its largest micro-batch in tokens, and its memory after every allocation."""

    tokens: int
    history: list[int]
    longest: int = 0  # tokens of its longest example

    @property
    def most(self) -> int:
        return max(self.history)

    def fits(self, other: "TrialUpdate", left: int) -> int:
        """Extrapolate to how many tokens a micro-batch may have for `left` bytes, from two trial updates.

        At every moment of an update memory grows in a straight line, but the moment of the most memory is not always the
        same: gradients weigh most when examples are few. So each moment is extrapolated by itself. If the two did not make
        the same tensors, as when a plugin loops over examples, they have no moments in common, and the line starts at zero.
        """
        pairs = list(zip(self.history, other.history, strict=True)) if len(self.history) == len(other.history) else []
        pairs = pairs or [(0, max(other.history))]
        more = other.tokens - self.tokens
        return min(int(self.tokens + (left - one) / (two - one) * more) for one, two in pairs if two > one)


def estimate_tokens(
    passes: Passes,
    optimizer: torch.optim.Optimizer,
    tasks: Sequence[Task],
    memory: int,
    plugins: Mapping[str, Any],
    square: float = 0.0,
) -> int:
    """Estimate how many tokens a micro-batch may have for an update to stay within `memory` bytes.

    If gradients are combined, all tasks are taken to share an update. Raises ConfigError if one example is too much.
    """
    steps = [tasks] if combines(passes) else [[task] for task in tasks]
    with leaving_no_trace(passes, plugins):
        single = [try_update(passes, optimizer, tasks, 1, square) for tasks in steps]
        _load_metrics(passes, tasks)
        resident = memory_in_use(passes.streams.device) + state_bytes(optimizer)
        left, most = memory - resident, max(single, key=lambda each: each.most)
        if most.most > left:
            raise ConfigError(
                f"memory = {in_words(memory)} is too little: model, optimizer and plugins take {in_words(resident)}, and "
                f"an update with one example of {most.longest} tokens {in_words(most.most)} more. Allow "
                f"{in_words(resident + most.most, up=True)}, set a lower max_length, or leave out plugins."
            )
        found = [_tokens(passes, optimizer, *each, left, square) for each in zip(steps, single, strict=True)]
        return _round(min(found))


def _tokens(
    passes: Passes,
    optimizer: torch.optim.Optimizer,
    tasks: Sequence[Task],
    single: TrialUpdate,
    left: int,
    square: float,
) -> int:
    """Estimate the tokens of a micro-batch in updates of these tasks, of which one example fits.

    A try of twice the examples is safe where `left` is enough for half of them: the heap has no holes yet.
    """
    two = try_update(passes, optimizer, tasks, 2, square)  # of one alone, attention has nothing to pad
    if two.most > left:
        return single.tokens
    return two.fits(try_update(passes, optimizer, tasks, 4, square), left)


def try_update(
    passes: Passes, optimizer: torch.optim.Optimizer, tasks: Sequence[Task], examples: int, square: float = 0.0
) -> TrialUpdate:
    """Try an update with so many of the longest examples, in two micro-batches of each task.

    So gradients are there already while the second is at work.
    """
    tokens = examples * max(int(_weights(task, square).max()) for task in tasks)
    batches = [_filled(task, tokens, square) for task in tasks]
    chosen = [(task, [batch, batch]) for task, batch in zip(tasks, batches, strict=True)]
    update = Update(passes, optimizer, chosen)
    forget_memory(passes.model)  # so that each try makes the same tensors
    with Live() as live, mode(passes.model, training=True):
        update.compute()
        passes.hook.before_step(model=passes.model, optimizer=optimizer, recompute=update.compute)
    passes.model.zero_grad()
    optimizer.zero_grad()
    forget_memory(passes.model)
    largest = max(size(weigh(lengths_in(batch), square)) for batch in batches)
    return TrialUpdate(largest, live.history, max(max(batch.example_lengths) for batch in batches))


def _weights(task: Task, square: float) -> np.ndarray:
    return weigh(lengths_of(task.splits["train"]), square)


def _filled(task: Task, tokens: int, square: float) -> Batch:
    """Make a micro-batch of the longest examples and one of the shortest: attention has to pad that."""
    weights = _weights(task, square)
    count = max(tokens // int(weights.max()), 1)
    rows = [int(weights.argmax())] * count
    rows[1:] = [*rows[2:], int(weights.argmin())] if count > 1 else []
    return task.splits["train"].batch(rows, keys=list(range(count)))


@contextmanager
def leaving_no_trace(passes: Passes, plugins: Mapping[str, Any]) -> Iterator[None]:
    """Put plugins and random states back afterwards; no plugin may leave weights changed anyway."""
    kept = {
        name: {
            key: copy.copy(part) if isinstance(part, dict | list | set) else part for key, part in held(plugin).items()
        }
        for name, plugin in plugins.items()
    }
    try:
        with passes.streams.within("memory"), passes.streams.seeded("memory"):
            yield
    finally:
        for name, before in kept.items():
            _put_back(plugins[name], before)


def _put_back(plugin: Any, before: Mapping[str, Any]) -> None:
    for name in held(plugin).keys() - before.keys():
        object.__delattr__(plugin, name)  # of a frozen one, too
    for name, value in before.items():
        object.__setattr__(plugin, name, value)


def _load_metrics(passes: Passes, tasks: Sequence[Task]) -> None:
    """Compute metrics once, so that the memory of what they import is counted.

    A kind of a plugin's own may import much for them.
    """
    model, device = passes.model, passes.streams.device
    with torch.no_grad(), mode(model, training=False), warnings.catch_warnings(action="ignore"):
        for task, labels in scorable(tasks, "dev"):
            batch = task.splits["dev"].batch([0, 1][: len(labels)]).to(device)
            evidence = task.objective.evidence(model.predict(task, batch, model.embed(batch)).float(), batch)
            task.objective.metrics(evidence.cpu(), labels[:2])


def memory_in_use(device: torch.device) -> int:
    """Measure the bytes that the process takes now: of the GPU, or of the machine's memory."""
    gc.collect()
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    with suppress(OSError, AttributeError):  # what was freed goes back to the system, where its allocator is GNU's
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096
    try:
        import resource
    except ImportError:
        raise ConfigError("memory cannot be bounded here: the system does not say how much a process takes.") from None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def state_bytes(optimizer: torch.optim.Optimizer, fragmented: int = FRAGMENTED) -> int:
    """Predict the bytes of the optimizer's state, from one of its kind for a small parameter per group.

    Each byte of a small tensor counts as `fragmented` many: it is made where a step has left holes, and parts them.
    """
    found = 0
    try:
        for group in optimizer.param_groups:
            like = torch.zeros(4, 4, requires_grad=True)
            like.grad = torch.zeros(4, 4)
            twin = type(optimizer)([{**group, "params": [like]}])  # type: ignore[call-arg]
            twin.step()
            of_a_weight = [value.numel() // like.numel() * value.element_size() for value in _tensors(twin.state[like])]
            found += sum(
                with_holes(size * each.numel(), fragmented) for size in of_a_weight for each in group["params"]
            )
        return found
    except Exception:  # one that cannot be built or stepped like this; most keep two numbers a weight
        weights: list[Tensor] = [each for group in optimizer.param_groups for each in group["params"]]
        return sum(2 * with_holes(each.nbytes, fragmented) for each in weights)


def in_words(amount: int, *, up: bool = False) -> str:
    """Write bytes as megabytes, `1250 MB`, rounded to the nearest or up."""
    return f"{math.ceil(amount / 1e6) if up else round(amount / 1e6)} MB"


def _round(tokens: int) -> int:
    """Round down to three significant bits, so that small differences in memory give the same size."""
    step = 1 << max(tokens.bit_length() - 3, 0)
    return tokens // step * step
