"""Watch: run plugins with an eye on each of their hooks, and note what it does beside answering.

Passes that a hook asks for, by `predict` or `recompute`, are the loop's own doing and not noted.
"""

import inspect
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from functools import wraps
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from regkit.hooks.attach import implementations, is_wrapper
from regkit.hooks.following import LOG
from regkit.model import MultitaskModel
from regkit.tasks.batch import Batch
from regkit.testing.tiny import Plugins
from regkit.training.loop import Trainer

Kind = Literal["noise", "foreign noise", "seed", "weight", "gradient", "mode", "input", "constant"]
NOISE = {  # torch's functions that draw, unless they are given a generator
    *("rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "normal", "bernoulli"),
    *("multinomial", "poisson", "random_", "normal_", "uniform_", "bernoulli_", "exponential_", "cauchy_"),
    *("geometric_", "log_normal_", "dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"),
    *("feature_alpha_dropout", "rrelu", "rrelu_", "gumbel_softmax"),
}
HANDED = ("predict", "task_loss", "recompute", "reevaluate")  # arguments by which a hook asks the loop for work
# Hooks in which a weight may change: before the first step, and between the gradient and the next step.
CHANGING = ("build", "prepare", "before_step", "clipped", "skipped", "after_step", "evaluated")
GRADIENT = ("before_step", "clipped", "skipped")  # hooks in which `.grad` may change
SETTING_UP = ("build", "prepare")  # hooks in which the mode of a module may change
ITS_OWN = {"combine_gradients": "gradients"}  # an argument that the hook may change in place


class Deed(NamedTuple):
    """What a plugin did in a hook, beside answering it."""

    plugin: str
    hook: str
    kind: Kind
    what: str  # the name of the function, the weight, the module, the argument or the term


@dataclass
class Watch:
    """Notes what the hooks of plugins do. Watched plugins do what they do unwatched."""

    deeds: dict[Deed, None] = field(default_factory=dict)  # each once, in the order of their first time
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)  # by plugin and hook
    asked: dict[str, list[MultitaskModel]] = field(default_factory=dict)  # models given to `predict`, by plugin
    model: MultitaskModel | None = None  # the one in training
    inside: list[tuple[str, str] | None] = field(default_factory=list)  # plugin and hook; None: the loop's own work

    def over(self, plugins: Plugins) -> dict[str, Any]:
        """Make watched plugins of these, by the same names."""
        return {name: self._watched(name, plugin) for name, plugin in plugins.items()}

    def train(self, trainer: Trainer) -> None:
        """Train, and note what the trainer's plugins do, which `over` has made."""
        self.model = trainer.model
        with self.noting():
            trainer.train()

    def noting(self) -> AbstractContextManager[object]:
        """Note which of torch's functions draw random numbers in a hook, inside the block."""
        return _Functions(self)

    def found(self, *kinds: Kind, hooks: tuple[str, ...] = ()) -> list[Deed]:
        """List the deeds of these kinds, in some of the hooks or in all."""
        return [deed for deed in self.deeds if deed.kind in kinds and (not hooks or deed.hook in hooks)]

    @property
    def misdeeds(self) -> list[Deed]:
        """What hooks must not do: of each hook and kind the first one, of hooks that follow a log none."""
        found: dict[tuple[str, str, str], Deed] = {}
        for deed in self.deeds:
            if deed.kind != "noise" and deed.hook not in LOG:
                found.setdefault(deed[:3], deed)
        return list(found.values())

    def note(self, kind: Kind, what: str) -> None:
        """Note a deed of the hook that runs now; nothing if the loop's own work does."""
        if self.inside and (now := self.inside[-1]):
            self.deeds[Deed(*now, kind, what)] = None

    def _watched(self, name: str, plugin: object) -> object:
        methods = {hook: self._method(name, hook, method) for hook, method in implementations(plugin).items()}
        return Watched(plugin, methods)

    def _method(self, plugin: str, hook: str, method: Callable[..., Any]) -> Callable[..., Any]:
        names = list(inspect.signature(method).parameters)
        around = self._around if is_wrapper(method) else self._plain
        return around(plugin, hook, method, names)

    def _plain(self, plugin: str, hook: str, method: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any) -> Any:
            given = dict(zip(names, arguments, strict=True))
            with self._looking(plugin, hook, given):
                answer = method(*self._handed(plugin, given).values())
                if hook == "extra_losses":
                    self._note_constants(answer)
            return answer

        return call

    def _around(self, plugin: str, hook: str, method: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
        @wraps(method)
        def wrapper(*arguments: Any) -> Generator[None, Any, Any]:
            given = dict(zip(names, arguments, strict=True))
            inner = method(*self._handed(plugin, given).values())
            with self._looking(plugin, hook, given):
                next(inner, None)
            answer = yield
            with self._looking(plugin, hook, given):
                try:
                    inner.send(answer)
                except StopIteration as stop:
                    return stop.value
            yield  # a second time, which is refused

        return wrapper

    @contextmanager
    def _looking(self, plugin: str, hook: str, given: Mapping[str, Any]) -> Iterator[None]:
        self.calls[plugin, hook] += 1
        before = self._state(hook, given)
        self.inside.append((plugin, hook))
        try:
            yield
            for thing, value in self._state(hook, given).items():
                if not _same(before.get(thing), value):
                    self.note(*thing)
        finally:
            self.inside.pop()

    def _state(self, hook: str, given: Mapping[str, Any]) -> dict[tuple[Kind, str], Any]:
        """Collect what this hook has to leave as it is."""
        found: dict[tuple[Kind, str], Any] = {
            ("foreign noise", "`random`"): random.getstate(),
            ("foreign noise", "`numpy.random`"): np.random.get_state(legacy=False)["state"],
            ("seed", "torch.manual_seed"): torch.initial_seed(),
        }
        for name, value in given.items():
            if ITS_OWN.get(hook) != name:
                found |= {("input", place): tensor._version for place, tensor in _tensors(name, value)}
        return found | self._state_of_model(hook)

    def _state_of_model(self, hook: str) -> dict[tuple[Kind, str], Any]:
        found: dict[tuple[Kind, str], Any] = {}
        if self.model is None:
            return found
        for name, parameter in self.model.named_parameters():
            if hook not in CHANGING:
                found["weight", name] = parameter.detach().clone()
            if hook not in GRADIENT:
                found["gradient", name] = None if parameter.grad is None else parameter.grad.clone()
        if hook not in SETTING_UP:
            found |= {("mode", name or "the model"): each.training for name, each in self.model.named_modules()}
        return found

    def _handed(self, plugin: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Close the eye in what the hook asks the loop to do."""
        return {name: self._as_the_loop(plugin, value) if name in HANDED else value for name, value in given.items()}

    def _as_the_loop(self, plugin: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if (model := named.get("model")) is not None:
                self.asked.setdefault(plugin, []).append(model)
            self.inside.append(None)
            try:
                return work(*arguments, **named)
            finally:
                self.inside.pop()

        return call

    def _note_constants(self, answer: object) -> None:
        """Note terms of the loss that are not zero and yet lead to no weight."""
        for name, term in answer.items() if isinstance(answer, Mapping) else ():
            if isinstance(term, Tensor) and not term.requires_grad and bool((term != 0).any()):
                self.note("constant", str(name))


def attributes(plugin: object) -> dict[str, Any]:
    """List what a plugin holds by name, its slots too."""
    slots = [each.name for each in fields(plugin)] if is_dataclass(plugin) else []
    names = dict.fromkeys([*getattr(plugin, "__dict__", ()), *slots])
    return {name: getattr(plugin, name) for name in names if hasattr(plugin, name)}


class Watched:
    """A plugin whose hooks are watched; everything else is the plugin's own."""

    def __init__(self, plugin: object, methods: Mapping[str, Any]) -> None:
        self.plugin = plugin
        vars(self).update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plugin, name)


class _Functions(TorchFunctionMode):
    """Notes each of torch's functions that draws from its default generators."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, named = getattr(func, "__name__", ""), kwargs or {}
        if name in NOISE and named.get("generator") is None and named.get("training") is not False:
            self.watch.note("noise", f"torch.{name}")
        return func(*args, **named)


def _tensors(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    """Find the tensors in an argument, each with its name."""
    if isinstance(value, Tensor):
        yield name, value
    if isinstance(value, Batch):
        for each in fields(value):
            yield from _tensors(f"{name}.{each.name}", getattr(value, each.name))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, dict) and isinstance(other, dict):  # numpy's state
        return all(np.array_equal(one[key], other[key]) for key in one)
    return bool(type(one) is type(other) and one == other)
