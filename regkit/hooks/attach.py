"""Attach: give each hook of a plugin its own random stream, its time, and the plugin's name on errors."""

import inspect
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from regkit.base.errors import PluginError, RegkitError, nearest
from regkit.base.failures import gone, last_line, ran_out
from regkit.base.randomness import Streams
from regkit.hooks.spec import DECIDE, Hooks
from regkit.hooks.stopwatch import Stopwatch
from regkit.tasks.task import FINETUNE

OF_THE_RUN = ("tasks", "stages")  # hooks whose answers are the same in every stage
Method = Callable[..., Any]


@dataclass
class Attached:
    """One plugin in a run: which hooks it answers, in which stages, and what it has added."""

    name: str
    plugin: object
    streams: Streams
    stopwatch: Stopwatch
    owners: dict[str, str]  # of the terms of the loss given so far: the plugin's name; shared by all plugins of the run
    named: Sequence[str] | None = None  # the stages that the user wants it in
    added: set[str] = field(default_factory=set)  # the stages that it has added

    def acts(self, stage: str) -> bool:
        """Whether the plugin acts in a stage: one that the user named, else fine-tuning and those it adds."""
        return stage in ({FINETUNE, *self.added} if self.named is None else self.named)

    def acts_now(self, hook: str) -> bool:
        """Whether the plugin answers a hook now: always outside of stages, and while the run is made."""
        stage, *_ = self.streams.place or (None,)
        return not isinstance(stage, str) or hook in OF_THE_RUN or self.acts(stage)

    @property
    def hooks(self) -> list[str]:
        """The hooks that the plugin answers, in the loop's order."""
        answered = implementations(self.plugin)
        return [hook for hook in vars(Hooks) if hook in answered]

    def wraps(self, hook: str) -> bool:
        """Whether the plugin wraps the others' answers to a hook, instead of giving one."""
        return is_wrapper(implementations(self.plugin)[hook])

    def methods(self) -> SimpleNamespace:
        """Wrap the plugin's hook implementations for pluggy. Raises PluginError for one that fits no hook."""
        found = implementations(self.plugin)
        if not found:
            raise PluginError(f"plugin '{self.name}' attaches to no hook; mark its methods with @hookimpl.")
        for hook, method in found.items():
            _check_signature(self.name, hook, method)
        return SimpleNamespace(
            **{
                hook: (self._around if is_wrapper(method) else self._plain)(hook, method)
                for hook, method in found.items()
            }
        )

    def _plain(self, hook: str, method: Method) -> Method:
        @wraps(method)
        def call(*arguments: Any) -> Any:
            if not self.acts_now(hook):
                return {} if hook in ("extra_losses", "measure") else None
            with self._alone(hook):
                answer = method(*arguments)
            if hook == "stages":
                self.added.update(stage.name for stage in answer)
            if hook == "extra_losses":
                self._check_losses(answer)
                self.owners.update(dict.fromkeys(answer, self.name))
            return {self.name: answer} if hook == "measure" else answer

        return call

    def _around(self, hook: str, method: Method) -> Method:
        @wraps(method)
        def wrapper(*arguments: Any) -> Generator[None, Any, Any]:
            if not self.acts_now(hook):
                return (yield)
            with closing(method(*arguments)) as inner:  # at once, where another plugin fails
                with self._alone(hook, "before"):
                    if next(inner, inner) is inner:
                        raise PluginError(f"plugin '{self.name}': the wrapper {hook} does not yield.")
                answer = yield
                with self._alone(hook, "after"):
                    try:
                        inner.send(answer)
                    except StopIteration as stop:
                        return stop.value
                    raise PluginError(f"plugin '{self.name}': the wrapper {hook} yields twice.")

        return wrapper

    @contextmanager
    def _alone(self, hook: str, *when: str) -> Iterator[None]:
        """Run a hook on the plugin's own time, from its own random stream, and name the plugin in any error.

        Running out of memory is nobody's fault, and the loop has a remedy: that error passes as it is, with a note. Nor is
        it a plugin's fault that another process is gone.
        """
        with self.stopwatch.on(self.name), self.streams.seeded(self.name, hook, *when):
            try:
                yield
            except RegkitError:
                raise
            except Exception as error:
                if ran_out(error):
                    error.add_note(f"{hook} of plugin '{self.name}'")
                    raise
                if gone(error):
                    raise
                place = ", ".join(str(part) for part in self.streams.place) or "the start"
                raise PluginError(f"plugin '{self.name}' failed in {hook} at {place}: {last_line(error)}.") from error

    def _check_losses(self, answer: object) -> None:
        if isinstance(answer, Mapping) and all(isinstance(each, Tensor) and not each.dim() for each in answer.values()):
            return
        found = type(answer).__name__
        raise PluginError(f"plugin '{self.name}': extra_losses returns {found}; it needs {{name: scalar tensor}}.")


def implementations(plugin: object) -> dict[str, Method]:
    """Find the methods of a plugin that are hook implementations, by the name of the hook."""
    found: dict[str, Method] = {}
    for name, method in inspect.getmembers(plugin, inspect.isroutine):
        mark = getattr(method, "regkit_impl", None)
        if mark:
            found[mark["specname"] or name] = method
    return found


def is_wrapper(method: Any) -> bool:
    """Whether a hook implementation wraps the others' answers."""
    return bool(method.regkit_impl["wrapper"])


def _check_signature(name: str, hook: str, method: Any) -> None:
    hooks = [known for known in vars(Hooks) if not known.startswith("_")]
    if hook not in hooks:
        raise PluginError(f"plugin '{name}' implements '{hook}', which is no hook. {nearest(hook, hooks)}")
    if hook in DECIDE and method.regkit_impl["trylast"] and not is_wrapper(method):
        raise PluginError(f"plugin '{name}': {hook} is marked trylast, so the default would answer before it.")
    if is_wrapper(method) and not inspect.isgeneratorfunction(method):
        raise PluginError(f"plugin '{name}': the wrapper {hook} has no yield.")
    known = list(inspect.signature(getattr(Hooks, hook)).parameters)[1:]
    for argument in inspect.signature(method).parameters.values():
        if argument.name not in known:
            choices = nearest(argument.name, known)
            raise PluginError(f"plugin '{name}': {hook} has no argument '{argument.name}'. {choices}")
        if argument.kind is argument.KEYWORD_ONLY or argument.default is not argument.empty:
            raise PluginError(f"plugin '{name}': {hook}: '{argument.name}' must be plain, without * or a default.")
