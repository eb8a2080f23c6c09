"""State: capture and restore what a checkpoint holds, and know when it may be saved."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regkit.base.errors import PluginError, RegkitError, RunError
from regkit.base.failures import last_line, ran_out
from regkit.base.randomness import Streams
from regkit.hooks.answers import UNREADABLE, Form, difference, form_of
from regkit.hooks.traits import needs_whole_batches
from regkit.model import MultitaskModel
from regkit.tasks.task import Task


class Length(NamedTuple):
    """How long a stage is, in optimizer updates."""

    epoch: int
    total: int


@dataclass
class Position:
    """Where a run is: what a checkpoint needs beside weights, optimizer and plugin state."""

    stage: int = 0
    step: int = 0  # updates done in the stage
    seen: dict[str, int] = field(default_factory=dict)  # batches that each task has given in the stage
    evaluated: int = -1  # updates that were done when the dev splits were last scored
    skipped: int = 0  # updates skipped in a row, because a loss or gradient was not finite
    ended: bool = False  # the stage ends here, whatever its length
    micro_batch_tokens: int | None = (
        None  # most tokens in a micro-batch, where fewer than the setting's were found to fit
    )
    square: float | None = None  # tokens that the square of a text's length counts as; known from the first stage on

    def needs_scores(self, length: Length, every: int | None = None) -> bool:
        """Whether the stage, an epoch or so many updates end here, and dev has not been scored yet."""
        return self.evaluated != self.step and (self.step >= length.total or self.step % (every or length.epoch) == 0)

    def is_at_the_end(self, length: Length) -> bool:
        """Whether nothing is left to do in the stage."""
        return self.ended or self.step >= length.total

    def count(self, tasks: Iterable[Task], *, skipped: bool) -> None:
        """Count an update for which each of these tasks gave a batch."""
        self.step += 1
        self.skipped = self.skipped + 1 if skipped else 0
        self.seen |= {task.name: self.seen.get(task.name, 0) + 1 for task in tasks}


@dataclass
class State:
    """The changing part of a run: model, optimizer, plugins and position."""

    model: MultitaskModel
    hook: Any  # pluggy's relay: one callable a hook
    streams: Streams
    plugins: Mapping[str, Any] = field(default_factory=dict)  # by name; only their state is used
    acts: Callable[[str, str], bool] = lambda plugin, stage: True  # whether a plugin acts in a stage
    position: Position = field(default_factory=Position)
    optimizer: torch.optim.Optimizer | None = None
    entered: list[str] = field(default_factory=list)  # names of the stages so far, the present one last
    loaded: Mapping[str, Any] | None = None  # what `load` was given, until `restore` puts it back
    versions: list[int] | None = None  # of the weights, when all parts of the state last stood at `position`

    def __post_init__(self) -> None:
        self.form: Form = form_of(self.model)  # as a checkpoint is read, without plugins

    def enter(self, number: int, stage: str) -> None:
        """Enter a stage: the position is set to its start, unless it is in this stage already."""
        self.entered.append(stage)
        if number > self.position.stage:
            self.position, self.versions = Position(stage=number), None

    def needing_whole_batches(self) -> list[str]:
        """List the plugins of this stage that need whole batches."""
        stage = self.entered[-1]
        return [name for name, plugin in self.plugins.items() if needs_whole_batches(plugin) and self.acts(name, stage)]

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Mark the state as inconsistent inside the block, and after an error in it: it is not saved then."""
        self.versions = None  # not their comparison alone: a fused optimizer leaves no mark on the weights' versions
        yield
        self.versions = self._versions()

    @property
    def consistent(self) -> bool:
        """Whether nothing changed since the last completed step, so that it can be saved after an error."""
        return self.versions == self._versions()

    def _versions(self) -> list[int]:
        """A number for each parameter that grows with every change of its values in place."""
        return [weight._version for weight in self.model.parameters()]

    def evaluated_model(self) -> MultitaskModel:
        """The model that is scored and kept: the one in training, unless a plugin decides otherwise.

        Raises PluginError for a model of another form.
        """
        with self.streams.at(*(self.streams.place or self.entered[-1:])):
            found: MultitaskModel = self.hook.model_to_evaluate(model=self.model)
        if found is not self.model and (other := difference(form_of(self.model), form_of(found))):
            raise PluginError(f"model_to_evaluate gives a model of another form than the one in training: {other}.")
        return found

    def check_form(self) -> None:
        """Raise PluginError if the model no longer has its form of the start, as checkpoints are read."""
        if other := difference(self.form, form_of(self.model)):
            raise PluginError(f"a hook changed the model so that {other}, and {UNREADABLE}.")

    def capture(self) -> dict[str, Any]:
        """Collect what training needs to go on, beside the weights of `evaluated_model`.

        Only plugins that act in this stage, or have acted in an earlier one: the others hold nothing yet.
        """
        state = {
            "position": asdict(self.position),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "plugins": {
                name: _state_of(name, plugin)
                for name, plugin in self.plugins.items()
                if hasattr(plugin, "state_dict") and any(self.acts(name, stage) for stage in self.entered)
            },
        }
        return state if self.evaluated_model() is self.model else state | {"model": self.model.state_dict()}

    def load(self, captured: Mapping[str, Any]) -> None:
        """Go on from what `capture` gave; the model already has the evaluated weights."""
        self.position = Position(**{"square": 0.0} | captured["position"])  # older runs did not count squares
        weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.loaded = {"model": weights, **captured}

    def restore(self) -> None:
        """Put back what `load` was given, now that plugins are prepared and the optimizer is built.

        Raises RunError naming the part that does not fit.
        """
        if self.loaded is None or self.optimizer is None:
            return
        with _named("the weights"):
            self.model.load_state_dict(self.loaded["model"])  # `prepare` may have changed them
        with _named("the optimizer"):
            self.optimizer.load_state_dict(self.loaded["optimizer"])
            _check_shapes(self.optimizer)
        for name, value in self.loaded["plugins"].items():
            with _named(f"plugin '{name}'"):
                self.plugins[name].load_state_dict(value)
        self.loaded = None


def _state_of(name: str, plugin: Any) -> Any:
    try:
        return plugin.state_dict()
    except (Exception, SystemExit) as error:
        if isinstance(error, RegkitError) or ran_out(error):
            raise
        raise PluginError(f"plugin '{name}' failed in state_dict: {last_line(error)}.") from error


def _check_shapes(optimizer: torch.optim.Optimizer) -> None:
    """Compare the optimizer's tensors with its parameters: torch does not, and a kernel would misread."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"{name} has shape {list(value.shape)} instead of {list(parameter.shape)}")


@contextmanager
def _named(part: str) -> Iterator[None]:
    """Turn any error while loading into a RunError that names the part that failed."""
    try:
        yield
    except (Exception, SystemExit) as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[-1].strip()
        raise RunError(f"the checkpoint cannot be resumed from: {part}: {reason.rstrip('.')}.") from error
